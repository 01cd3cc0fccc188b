"""Fine-tuning steps of this project against a plain diffusers + accelerate loop, in the same run.

    python benchmarks/finetune_speed.py --size sd15 --method full lora     # a GPU; random weights, 512 px, batch 16
    python benchmarks/finetune_speed.py --size tiny                        # a CPU

The baseline is written as diffusers' documentation of text-to-image training has it: pictures and captions encoded in
every step, recomputed activations, mixed precision, AdamW, clipping at 1, EMA for full training. Both loops have one
precision. On a CPU the two take turns, and what counts is CPU time.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from peft import LoraConfig
from PIL import Image
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from daybreak.finetune.opening import open_data, open_trainee, plan_of
from daybreak.finetune.prepared import compute_dtype, open_prepared
from daybreak.finetune.settings import FinetuneSettings
from daybreak.parallel import Ranks, pick_device
from daybreak.train.stage import Stage
from daybreak.train.step import Step, clip_and_step

SIZES = {
    "sd15": {"unet": {"sample_size": 64, "cross_attention_dim": 768}, "text": 768, "layers": 12, "heads": 12,
             "vae": (128, 256, 512, 512), "groups": 32, "side": 512},
    "tiny": {"unet": {"sample_size": 16, "cross_attention_dim": 32, "block_out_channels": (16, 32),
                      "layers_per_block": 1, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                      "attention_head_dim": 8, "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                      "norm_num_groups": 8},
             "text": 32, "layers": 2, "heads": 2, "vae": (16, 16), "groups": 8, "side": 32},
}  # fmt: skip


def make_base(folder: Path, size: str) -> None:
    """A Stable Diffusion pipeline with random weights."""
    s = SIZES[size]
    letters = [chr(c) for c in range(33, 127)]
    entries = ["<|startoftext|>", "<|endoftext|>", *letters, *(c + "</w>" for c in letters)]
    text = CLIPTextConfig(
        vocab_size=49408 if size == "sd15" else len(entries), hidden_size=s["text"], intermediate_size=4 * s["text"],
        num_hidden_layers=s["layers"], num_attention_heads=s["heads"], bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    blocks = len(s["vae"])
    vae = AutoencoderKL(
        block_out_channels=s["vae"], latent_channels=4, norm_num_groups=s["groups"], layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), unet=UNet2DConditionModel(**s["unet"]),
        tokenizer=CLIPTokenizer(vocab={w: i for i, w in enumerate(entries)}, merges=[], model_max_length=77),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Noise with captions."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture number {i} of noise")


def ours(base: Path, data: Path, out: Path, method: str, batch: int, side: int, precision: str) -> Callable[[], None]:
    """One step of this project, everything cached."""
    settings = FinetuneSettings(
        base=str(base), data=str(data), method=method, batch=batch, resolution=side, general_prompts=("noise",),
        sample_steps=1, guidance=1.0, held_out=0.0, precision=precision,
    )  # fmt: skip
    base = open_prepared(settings, pick_device())
    plan = plan_of(base)
    print(f"plan: {plan.total / 2**30:.2f} GiB, {plan.at_once} at once, recompute {plan.recompute}", flush=True)
    run = open_trainee(base, plan, open_data(base)[:2], out, Ranks(), lambda *_: None)
    base.rest()
    run.prepare()
    stage, taking = Stage(run, 0, Ranks()), Step(run, Ranks(), print)

    def step() -> None:
        taking.backward(next(stage.batches), run.config, 0.0, watched=False)
        clip_and_step(run.parameters(), run.optimizers, settings.clip_norm, 1.0, math.isfinite, run.scaler)
        run.update_averages()
        run.step += 1

    return step


def plain(base: Path, data: Path, method: str, batch: int, side: int, precision: str) -> Callable[[], None]:
    """One step of the documented loop."""
    dtype = compute_dtype(precision, pick_device())
    accelerator = Accelerator(mixed_precision="bf16" if dtype == torch.bfloat16 else "no")
    device = accelerator.device
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    unet, noise_scheduler = pipeline.unet, DDPMScheduler.from_config(pipeline.scheduler.config)
    vae = pipeline.vae.to(device, dtype).requires_grad_(False)
    encoder = pipeline.text_encoder.to(device, dtype).requires_grad_(False)
    unet.enable_gradient_checkpointing()
    if method == "lora":
        unet.requires_grad_(False).to(device, dtype)
        unet.add_adapter(LoraConfig(r=16, lora_alpha=16, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
        for p in unet.parameters():
            if p.requires_grad:
                p.data = p.data.float()
    trained = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-6, weight_decay=1e-2)
    unet, optimizer = accelerator.prepare(unet.train(), optimizer)
    ema = EMAModel(trained) if method == "full" else None
    if ema is not None:
        ema.to(device)
    files, turn = sorted(data.glob("*.png"), key=lambda p: int(p.stem)), 0

    def step() -> None:
        nonlocal turn
        some = [files[(turn + i) % len(files)] for i in range(batch)]
        turn += batch
        pixels = np.stack([np.asarray(Image.open(p).convert("RGB").resize((side, side))) for p in some])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device, dtype) / 127.5 - 1
        captions = [p.with_suffix(".txt").read_text() for p in some]
        latents = vae.encode(images).latent_dist.sample() * vae.config.scaling_factor
        ids = pipeline.tokenizer(captions, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        states = encoder(ids.input_ids.to(device))[0]
        noise = torch.randn_like(latents)
        t = torch.randint(0, 1000, (batch,), device=device)
        noisy = noise_scheduler.add_noise(latents, noise, t)
        with accelerator.autocast():
            output = unet(noisy, t, states, return_dict=False)[0]
        loss = functional.mse_loss(output.float(), noise.float())
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if ema is not None:
            ema.step(trained)
        loss.item()

    return step


def timed(step: Callable[[], None], steps: int) -> float:
    """Seconds a step; of the CPU's time where there is no GPU."""
    gpu = torch.cuda.is_available()
    clock = time.perf_counter if gpu else time.process_time
    if gpu:
        torch.cuda.synchronize()
    began = clock()
    for _ in range(steps):
        step()
    if gpu:
        torch.cuda.synchronize()
    return (clock() - began) / steps


def peak() -> str:
    """Of the GPU since the last call."""
    if not torch.cuda.is_available():
        return "-"
    found = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return f"{found:.1f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="sd15")
    parser.add_argument("--method", nargs="+", choices=("full", "lora"), default=["full", "lora"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("auto", "float32"), default="auto")
    options = parser.parse_args()
    side = SIZES[options.size]["side"]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, {gpu}")
    with tempfile.TemporaryDirectory() as folder:
        base, data = Path(folder) / "base", Path(folder) / "data"
        torch.manual_seed(0)
        make_base(base, options.size)
        make_pictures(data, 2 * options.batch, side)
        print("| method | loop | images/s (rounds) | ratio | peak memory |\n|---|---|---|---|---|")
        for method in options.method:
            told = (method, options.batch, side, options.precision)
            loops = {
                "plain": lambda told=told: plain(base, data, *told),
                "daybreak": lambda told=told: ours(base, data, Path(folder) / f"run-{told[0]}", *told),
            }
            rates: dict[str, list[float]] = {name: [] for name in loops}
            memory = dict.fromkeys(loops, "-")
            # On a GPU one after the other, so that each peak of memory is its own.
            for some in [[name] for name in loops] if torch.cuda.is_available() else [list(loops)]:
                steps = {name: loops[name]() for name in some}
                for step in steps.values():
                    timed(step, 2)
                peak()
                for _ in range(options.rounds):
                    for name, step in steps.items():
                        rates[name].append(options.batch / timed(step, options.steps))
                for name in some:
                    memory[name] = peak()
                steps.clear()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            baseline = statistics.median(rates["plain"])
            for name, found in rates.items():
                middle = statistics.median(found)
                shown = ", ".join(f"{r:.1f}" for r in found)
                print(f"| {method} | {name} | {middle:.1f} ({shown}) | {middle / baseline:.2f} | {memory[name]} |")
                if name == "daybreak":
                    print(f"in 24 h: {middle * 86400:,.0f} pictures", file=sys.stderr)


if __name__ == "__main__":
    main()
