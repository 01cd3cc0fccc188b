"""The layers against plain formulas."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from daybreak.config import ModelConfig
from daybreak.encoders.text import TextTokens
from daybreak.model import joint, layers, transformer
from daybreak.model.layers import gated_gelu, sinusoid
from daybreak.model.rope import axial_angles, norm_rotate, rotate, rotation
from daybreak.model.transformer import Transformer, patchify, unpatchify

G = torch.Generator().manual_seed(0)


def test_gated_gelu_and_its_gradient_equal_torch_s():
    x = torch.randn(5, 7, 24, generator=G) * 3
    grad = torch.randn(5, 7, 12, generator=G)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours = gated_gelu(a)
    gate, up = b.chunk(2, dim=-1)
    theirs = F.gelu(gate, approximate="tanh") * up
    ours.backward(grad)
    theirs.backward(grad)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(a.grad, b.grad, atol=2e-5)

    with torch.no_grad():
        assert torch.allclose(gated_gelu(a), theirs, atol=1e-5)


def test_modulation_shared_by_all_pictures_equals_each_picture_s_own():
    x, shift, scale = (torch.randn(3, n, 8, generator=G) for n in (5, 1, 1))
    shared = layers.modulate(x, shift[:1], scale[:1])
    each = layers.modulate(x, shift[:1].expand(3, -1, -1), scale[:1].expand(3, -1, -1))
    with torch.no_grad():
        assert torch.allclose(layers.modulate(x, shift[:1], scale[:1]), each, atol=1e-6)
    assert torch.allclose(shared, each, atol=1e-6)


@pytest.mark.parametrize("own_tokens", [False, True])
def test_norm_with_rotation_and_its_gradient_equal_the_two(own_tokens):
    x = torch.randn(2, 6, 3, 4, 16, generator=G).permute(2, 0, 3, 1, 4)[1]  # as queries lie in memory
    weight, grad = torch.rand(16, generator=G) + 0.5, torch.randn(2, 4, 6, 16, generator=G)
    cos, sin = rotation(axial_angles(2, 3, 16, 10_000.0, torch.device("cpu")))
    if own_tokens:  # routed: each picture has its own tokens
        cos, sin = (torch.stack([t, t.flip(0)])[:, None] for t in (cos, sin))
    results = []
    for form in (norm_rotate, lambda x, w, eps, c, s: rotate(F.rms_norm(x, w.shape, w, eps), c, s)):
        a, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = form(a, w, 1e-6, cos, sin)
        results.append((y, *torch.autograd.grad(y, (a, w), grad)))
    for ours, plain in zip(*results, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)

    before = torch.randn(2, 4, 5, 16, generator=G)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            appended = norm_rotate(x, weight, 1e-6, cos, sin, before)
        assert torch.equal(appended[:, :, :5], before)
        assert torch.allclose(appended[:, :, 5:], results[1][0], atol=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    cos, sin = rotation(axial_angles(4, 6, 16, 10_000.0, torch.device("cpu")))
    q, k = torch.randn(16, generator=G).expand(24, 16), torch.randn(16, generator=G).expand(24, 16)
    a, b = rotate(q, cos, sin), rotate(k, cos, sin)
    assert torch.allclose(a.norm(dim=-1), q.norm(dim=-1), atol=1e-5)
    scores = (a @ b.T).view(4, 6, 4, 6)
    assert torch.allclose(scores[0, 0, 2, 3], scores[1, 2, 3, 5], atol=1e-4)
    assert not torch.allclose(scores[0, 0, 2, 3], scores[0, 0, 3, 2], atol=1e-2)


def test_patches_there_and_back():
    x = torch.randn(2, 3, 8, 12, generator=G)
    patches = patchify(x, 4)
    assert patches.shape == (2, 6, 48)
    assert torch.equal(unpatchify(patches, 4, 2, 3), x)
    assert torch.equal(patches[0, 1, :16].view(4, 4), x[0, 0, :4, 4:8])  # row by row; channel by channel


def test_sinusoid_has_cosines_first():
    e = sinusoid(torch.tensor([0.0, 3.0]), 8)
    assert torch.equal(e[0], torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]))
    assert e[1, 0].item() == pytest.approx(torch.cos(torch.tensor(3.0)).item())


@pytest.mark.parametrize("layout", [{}, {"layout": "joint"}])
def test_norms_with_a_weight_are_torch_s_in_float32_and_say_nothing_of_bfloat16(layout, monkeypatch):
    torch.manual_seed(0)
    config = ModelConfig(width=32, heads=2, depth=2, patch=4, modulation="none", text_blocks=1, **layout)
    model = Transformer(config, text_width=16)
    for p in model.parameters():
        torch.nn.init.normal_(p, 0.5, std=0.1)  # the last layers begin at zero
    norms = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.RMSNorm)}
    assert {"final_norm.weight", "text_blocks.0.text.norm_a.weight"} <= model.state_dict().keys()  # as files name them
    x, t = torch.randn(2, 3, 16, 16, generator=G), torch.tensor([0.2, 0.7])
    text = TextTokens(torch.randn(2, 5, 16, generator=G), torch.ones(2, 5, dtype=torch.bool))
    ours, by_weight = model(x, t, text).x0, {id(m.weight): m for m in norms.values()}
    called = set()

    def by_module(y, weight, _eps):
        called.add(id(weight))
        return by_weight[id(weight)](y)

    with monkeypatch.context() as patch:
        for module in (layers, joint, transformer):
            patch.setattr(module, "rms_norm", by_module)
        assert torch.equal(model(x, t, text).x0, ours)
    assert called >= {id(m.weight) for name, m in norms.items() if name.endswith(("norm_a", "norm_m", "final_norm"))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.autocast("cpu", torch.bfloat16):
            model(x, t, text).x0.square().mean().backward()
    assert model.final_norm.weight.grad.isfinite().all()


@pytest.mark.parametrize("changes", [{}, {"pooled_text": True}, {"modulation": "shared", "size_conditioning": True}])
@pytest.mark.parametrize("grad", [False, True])
def test_one_time_for_all_pictures_gives_what_as_many_equal_times_give(changes, grad):
    torch.manual_seed(0)
    model = Transformer(ModelConfig(32, 2, 2, patch=4, **changes), 16)
    for parameter in model.parameters():  # layers that start at zero count, too
        torch.nn.init.normal_(parameter, std=0.2)
    x, text = torch.randn(3, 3, 16, 16, generator=G), torch.randn(3, 5, 16, generator=G)
    tokens = TextTokens(text, torch.arange(5) < torch.tensor([[5], [2], [1]]))
    with torch.set_grad_enabled(grad):
        one = model(x, torch.tensor(0.4).expand(3), tokens).x0
        each = model(x, torch.full((3,), 0.4), tokens).x0
    assert each.std() > 0.01 and torch.allclose(one, each, atol=1e-5 * each.detach().abs().max().item())
