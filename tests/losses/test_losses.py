"""Each loss against an independent form of its formula."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from daybreak.config import AlignmentConfig, ConfigError, override
from daybreak.diffusion import flow
from daybreak.losses import compute as losses
from daybreak.losses.feature_distance import feature_distance
from daybreak.losses.objective import Objective
from daybreak.losses.perceptual import VGG16Features, open_lpips, scaled
from daybreak.losses.repa import Projector, alignment_loss, spatially_normalised
from daybreak.model.transformer import Prediction
from tests.conftest import tiny_config


@pytest.fixture(scope="module")
def vgg_files(tmp_path_factory):
    """Random weights under the names of torchvision's VGG16 and of LPIPS's heads, classifier included."""
    folder = tmp_path_factory.mktemp("vgg")
    torch.manual_seed(0)
    state = {k: 0.5 * v for k, v in VGG16Features().state_dict().items()} | {"classifier.0.weight": torch.zeros(2, 2)}
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((64, 128, 256, 512, 512))}
    torch.save(state, folder / "vgg16.pth")
    torch.save(heads, folder / "heads.pth")
    return str(folder / "vgg16.pth"), str(folder / "heads.pth")


def lpips_by_hand(state, heads, a, b):
    """The published formula, written out layer by layer with functions."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # torchvision's numbering
    taps = {2: 0, 7: 1, 14: 2, 21: 3, 28: 4}
    total = torch.zeros(len(a))
    x, y = (((p + 1) / 2 - mean[None, :, None, None]) / std[None, :, None, None] for p in (a, b))
    for n in convolutions:
        w, bias = state[f"features.{n}.weight"], state[f"features.{n}.bias"]
        x, y = F.relu(F.conv2d(x, w, bias, padding=1)), F.relu(F.conv2d(y, w, bias, padding=1))
        if n in taps:
            u, v = (f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for f in (x, y))
            total += F.conv2d((u - v) ** 2, heads[f"lin{taps[n]}.model.1.weight"]).mean((1, 2, 3))
            x, y = F.max_pool2d(x, 2), F.max_pool2d(y, 2)
    return total


def test_lpips_is_the_published_formula(vgg_files):
    state, heads = (torch.load(f, weights_only=True) for f in vgg_files)
    lpips = open_lpips(*vgg_files)
    a, b = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    expected = lpips_by_hand(state, heads, a, b)
    assert expected.min() > 1e-4
    assert torch.allclose(lpips(a, b), expected, rtol=1e-5)
    assert torch.equal(lpips(a, a), torch.zeros(2))


def test_lpips_gives_a_gradient_to_the_prediction_alone(vgg_files):
    lpips = open_lpips(*vgg_files)
    a, b = (torch.rand(1, 3, 32, 32).requires_grad_() for _ in range(2))
    lpips(a, b).sum().backward()
    assert a.grad.abs().sum() > 0 and b.grad is None
    assert all(p.grad is None for p in lpips.parameters())


def test_lpips_wants_its_files(vgg_files, tmp_path):
    with pytest.raises(ConfigError, match="lpips_heads is none"):
        open_lpips(vgg_files[0], None)
    with pytest.raises(ConfigError, match="perceptual.lpips_network .*cannot be read"):
        open_lpips(str(tmp_path / "absent.pth"), vgg_files[1])
    with pytest.raises(ConfigError, match="not VGG16"):
        open_lpips(vgg_files[1], vgg_files[0])
    with pytest.raises(ConfigError, match="lpips_heads belongs to VGG16, and perceptual.lpips_network is embedded"):
        open_lpips("embedded", vgg_files[1])
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg.safetensors")
    with pytest.raises(ConfigError, match="vgg.safetensors is no teacher .*VGG16's weights need perceptual.lpips_head"):
        open_lpips(str(tmp_path / "vgg.safetensors"), None)


def test_the_embedded_perceptual_distance_tells_shapes_apart():
    lpips = open_lpips("embedded", None)
    a = torch.zeros(1, 3, 32, 32)
    near, far = a.clone(), a.clone()
    near[:, :, 8:24, 8:24] = 0.02
    far[:, 0, 8:24, 8:24] = 1
    assert 0 < lpips(a, near) < lpips(a, far)


def test_half_scale_is_the_mean_of_two_by_two():
    x = torch.randn(1, 3, 8, 8)
    assert torch.allclose(scaled(x, 0.5), F.avg_pool2d(x, 2), atol=1e-6)
    assert scaled(x, 1.0) is x


def test_feature_distance_ignores_length_and_counts_direction():
    a = torch.randn(2, 5, 8)
    assert torch.allclose(feature_distance(a, 3 * a), torch.zeros(2), atol=1e-6)
    assert torch.allclose(feature_distance(a, -a), torch.full((2,), 2.0), atol=1e-6)


def test_alignment_compares_only_the_tokens_that_stayed():
    teacher = torch.randn(2, 6, 4)
    visible = torch.tensor([[0, 2], [1, 5]])
    projected = torch.stack([teacher[0, [0, 2]], teacher[1, [1, 5]]])
    assert torch.allclose(alignment_loss(projected, teacher, visible), torch.zeros(2), atol=1e-6)
    assert alignment_loss(projected.flip(0), teacher, visible).min() > 0.1


def test_the_convolutional_projector_sees_neighbours():
    projector = Projector(8, 4, AlignmentConfig(projector="conv"))
    x = torch.randn(1, 9, 8)
    y = x.clone()
    y[0, 0] += 1  # the corner of a 3 x 3 grid: it reaches four places and no more
    changed = (projector(x, 3, 3) - projector(y, 3, 3)).abs().sum(-1)[0] > 1e-6
    assert changed.tolist() == [True, True, False, True, True, False, False, False, False]
    f = spatially_normalised(torch.randn(2, 50, 4) * 3 + 7)
    assert torch.allclose(f.mean(1), torch.zeros(2, 4), atol=1e-5)
    assert torch.allclose(f.std(1), torch.ones(2, 4), atol=1e-4)


def test_contrastive_flow_matching_is_its_equation():
    x0, noise, t = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8), torch.rand(4) * 0.9 + 0.1
    x_t, guess = flow.interpolate(x0, noise, t), torch.randn(4, 3, 8, 8)
    v_guess = (x_t - guess) / t.view(-1, 1, 1, 1)
    v_other = torch.stack([(noise - x0)[(i - 1) % 4] for i in range(4)])
    expected = -((v_guess - v_other) ** 2).mean((1, 2, 3))
    assert torch.allclose(losses.contrastive_loss(guess, x0, x_t, t, 0.05), expected, atol=1e-3)


def test_weights_follow_the_config_and_the_progress():
    config = tiny_config(alignment__weight=0.5, alignment__until=0.6, perceptual__dino=0.01, alignment__layer=1)
    assert losses.weights(config, 0.3) == {"velocity": 1.0, "alignment": 0.5, "dino": 0.01}
    assert losses.weights(config, 0.7) == {"velocity": 1.0, "dino": 0.01}


def test_every_term_through_the_real_networks():
    """A perfect prediction has no error but in the projector; a wrong one has error everywhere."""
    config = tiny_config(
        alignment__weight=0.5, alignment__layer=1, perceptual__lpips=0.1, perceptual__dino=0.01, perceptual__t_max=0.6
    )
    objective = Objective.create(config)
    assert objective.dino is objective.teacher  # the same network is loaded once
    x0, t = torch.rand(3, 3, 32, 32) * 2 - 1, torch.tensor([0.2, 0.5, 0.9])
    x_t = flow.interpolate(x0, torch.randn_like(x0), t)
    features = torch.randn(3, 64, 32)
    wanted = {"velocity", "alignment", "lpips", "dino"}
    perfect = losses.compute(Prediction(x0, features), x0, x_t, t, objective, config, wanted)
    assert set(perfect) == wanted
    assert max(perfect[k].item() for k in ("velocity", "lpips", "dino")) < 1e-5
    assert 0.5 < perfect["alignment"] < 1.5
    wrong = x0.clone()
    wrong[2] = -wrong[2]  # at t = 0.9, beyond the gate
    gated = losses.compute(Prediction(wrong, features), x0, x_t, t, objective, config, wanted)
    assert gated["lpips"] < 1e-5 and gated["velocity"] > 0.1
    wrong[0] = -wrong[0]
    assert losses.compute(Prediction(wrong, features), x0, x_t, t, objective, config, wanted)["lpips"] > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alignment.weight": 0.5, "alignment.layer": 1, "alignment.resolution": 48}, "48 .* set 32, or none"),
        ({"perceptual.dino": 0.1, "perceptual.dino_resolution": 30}, "divide by the teacher's patch of 4 px; 28"),
        ({"alignment.weight": 0.5, "alignment.layer": 1, "alignment.teacher": "/absent"}, "alignment.teacher /absent"),
    ],
)  # fmt: skip
def test_a_teacher_that_does_not_fit_is_refused(changes, message):
    config = tiny_config()
    for key, value in changes.items():
        config = override(config, key, value)
    with pytest.raises(ConfigError, match=message):
        Objective.create(config)
