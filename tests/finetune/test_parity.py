"""One step's loss and gradients against an independent computation with diffusers' schedulers."""

import pytest
import tiny
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from diffusers.training_utils import compute_snr
from torch.nn import functional

from daybreak.diffusion import vp
from daybreak.finetune.families import StableDiffusion
from daybreak.finetune.process import Flow, VariancePreserving
from daybreak.finetune.step import StepRandomness, squared_errors

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def a_step(process, channels=4):
    torch.manual_seed(5)
    rows = torch.cat([torch.randn(3, channels, 8, 8), torch.rand(3, channels, 8, 8)], dim=1)
    text = {"states": torch.randn(3, 16, 16)}
    random = StepRandomness.draw((3, channels, 8, 8), process, 0.0, 0.1, False, torch.Generator().manual_seed(1))
    return rows, text, random


class Pipeline:
    """What `Family` asks of a pipeline here: its VAE."""

    def __init__(self):
        self.vae = tiny.vae(scaling_factor=0.18215)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_discrete_bases(predicts, gamma):
    torch.manual_seed(0)
    network, family = tiny.unet(), StableDiffusion(Pipeline())
    scheduler = DDPMScheduler(prediction_type=predicts, **BETAS)
    process = VariancePreserving(scheduler.alphas_cumprod, predicts, gamma)
    rows, text, random = a_step(process)
    loss = squared_errors(family, network, process, rows, text, random).mean()
    ours = gradients(network, loss)

    mean, std = rows.chunk(2, dim=1)
    latents = (mean + std * random.posterior) * 0.18215
    noisy = scheduler.add_noise(latents, random.noise, random.t)
    target = random.noise if predicts == "epsilon" else scheduler.get_velocity(latents, random.noise, random.t)
    output = network(noisy, random.t, encoder_hidden_states=text["states"]).sample
    errors = functional.mse_loss(output, target, reduction="none").mean(dim=(1, 2, 3))
    if gamma is not None:
        snr = compute_snr(scheduler, random.t)
        weights = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
        errors = errors * weights / (snr if predicts == "epsilon" else snr + 1)
    theirs = gradients(network, errors.mean())
    assert abs(loss.item() - errors.mean().item()) < 1e-5
    assert ours.keys() == theirs.keys()
    assert max((ours[k] - theirs[k]).abs().max().item() for k in ours) < 1e-5


def test_flow_bases(tmp_path):
    from daybreak.finetune.bases import open_base
    from daybreak.finetune.families import family_of

    pipeline = open_base(str(tiny.save_sd3(tmp_path / "sd3")))
    family, process = family_of(pipeline, "sd3"), Flow(3.0)
    network = family.network.train()
    rows, _, random = a_step(process)
    text = {k: v.detach() for k, v in family.text(["a red circle"] * 3).items()}
    loss = squared_errors(family, network, process, rows, text, random).mean()
    ours = gradients(network, loss)

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.timesteps, scheduler.sigmas = random.t * 1000, random.t  # the times that were drawn
    mean, std = rows.chunk(2, dim=1)
    config = pipeline.vae.config
    latents = (mean + std * random.posterior - config.shift_factor) * config.scaling_factor
    noisy = scheduler.scale_noise(latents, random.t * 1000, random.noise)
    states, _, pooled, _ = pipeline.encode_prompt(
        ["a red circle"] * 3, None, None, device="cpu", do_classifier_free_guidance=False
    )
    given = {"encoder_hidden_states": states.detach(), "pooled_projections": pooled.detach()}
    output = network(noisy, timestep=random.t * 1000, **given).sample
    reference = functional.mse_loss(output, random.noise - latents)
    theirs = gradients(network, reference)
    assert abs(loss.item() - reference.item()) < 1e-5
    assert ours.keys() == theirs.keys() and ours
    assert max((ours[k] - theirs[k]).abs().max().item() for k in ours) < 1e-5


def test_zero_terminal_snr():
    plain, zero = DDIMScheduler(**BETAS), DDIMScheduler(**BETAS, rescale_betas_zero_snr=True)
    ours = vp.zero_terminal_snr(plain.alphas_cumprod)
    betas = rescale_zero_terminal_snr(plain.betas)
    assert torch.allclose(ours, torch.cumprod(1 - betas, dim=0), atol=1e-6)
    assert torch.allclose(ours, zero.alphas_cumprod, atol=1e-6)
    assert ours[-1] == 0 and torch.isclose(ours[0], plain.alphas_cumprod[0])


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_x0_comes_back(predicts):
    x0, noise, abar = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([0.9, 0.2])
    x_t = vp.interpolate(x0, noise, abar)
    said = noise if predicts == "epsilon" else vp.velocity(x0, noise, abar)
    assert torch.allclose(vp.to_x0(x_t, said, abar, predicts), x0, atol=1e-5)


def test_offset_noise_shifts_whole_channels():
    process = Flow(1.0)
    generator = torch.Generator().manual_seed(0)
    noise = StepRandomness.draw((64, 4, 8, 8), process, 0.0, 0.5, False, generator).noise
    # Variance of a channel's mean: 1 / 64 of the plain noise, and 0.25 of the offset.
    assert noise.mean(dim=(2, 3)).var().item() == pytest.approx(0.25 + 1 / 64, rel=0.25)
