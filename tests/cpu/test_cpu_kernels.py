"""The kernels for a CPU against the plain forms: values and gradients, in three precisions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from daybreak.attention import attend
from daybreak.config import ModelConfig
from daybreak.cpu import functions as ours
from daybreak.cpu import kernels
from daybreak.encoders.text import TextTokens
from daybreak.model.rope import axial_angles, rotate, rotation
from daybreak.model.transformer import Transformer

pytestmark = pytest.mark.skipif(kernels._library(torch.float32) is None, reason="no C compiler here")

B, N, L, H, D = 3, 6, 5, 2, 8
C, EPS = H * D, 1e-6
G = torch.Generator().manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=G, dtype=torch.float64)


PARTNERS = draw(B, N, C).bfloat16()  # the same in all precisions


def norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return norm(x) * (1 + scale) + shift


def add_modulate(x: Tensor, gate: Tensor, y: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return x + gate * y, modulate(x + gate * y, shift, scale)


def gated_gelu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


def tables(own: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of all tokens, or of each picture's own."""
    cos, sin = rotation(axial_angles(2, 3, D, 100.0, torch.device("cpu")))
    if own:
        cos, sin = (torch.stack([t, t.flip(0), t.roll(1, 0)])[:, None] for t in (cos, sin))
    return cos.to(dtype), sin.to(dtype)


def split_heads(own: bool) -> Callable[..., tuple[Tensor, ...]]:
    def plain(qkv: Tensor, text_kv: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        q, k, v = qkv.view(B, N, 3, H, D).permute(2, 0, 3, 1, 4)
        text_k, text_v = text_kv.view(B, L, 2, H, D).permute(2, 0, 3, 1, 4)
        q, k, text_k = (F.rms_norm(x, (D,), w, EPS) for x, w in zip((q, k, text_k), weights, strict=True))
        q, k = (rotate(x, *tables(own, x.dtype)) for x in (q, k))
        return q * D**-0.5, torch.cat([text_k, k], dim=2), torch.cat([text_v, v], dim=2)

    return plain


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    logits = q @ k.transpose(-2, -1)
    return torch.softmax(logits if mask is None else logits + mask, dim=-1) @ v


def row() -> Tensor:
    """Shift, scale or gate."""
    return draw(B, 1, C)


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[[], list[Tensor]]]] = {
    "modulate": (
        lambda *x: ours.Modulate.apply(*x, EPS), modulate, lambda: [draw(B, N, C), row(), row()]
    ),
    "add_modulate": (
        lambda *x: ours.AddModulate.apply(*x, EPS), add_modulate,
        lambda: [draw(B, N, C), row(), draw(B, N, C), row(), row()],
    ),
    "add_gated": (
        ours.AddGated.apply, lambda x, gate, y: x + gate * y, lambda: [draw(B, N, C), row(), draw(B, N, C)]
    ),
    "gated_gelu": (ours.GatedGelu.apply, gated_gelu, lambda: [3 * draw(B, N, 2 * 20)]),
    **{
        f"split_heads {own}": (
            lambda *x, own=own: ours.SplitHeads.apply(*x, *tables(own, ours.exact(x[0].dtype)), H, EPS),
            split_heads(own),
            lambda: [draw(B, N, 3 * C), draw(B, L, 2 * C), *(draw(D) for _ in range(3))],
        )
        for own in (False, True)
    },
    "cosine": (
        lambda x: ours.Cosine.apply(x, PARTNERS.to(x.dtype)).to(x.dtype),
        lambda x: F.cosine_similarity(x, PARTNERS.to(x.dtype), dim=-1),
        lambda: [draw(B, N, C)],
    ),
    **{
        f"attention {mask}": (
            lambda q, k, v, *m: ours.SoftmaxAttention.apply(q, k, v, *(m or (None,))),
            attention,
            lambda mask=mask: [draw(B, H, N, D), draw(B, H, N + L, D), draw(B, H, N + L, D), *mask_of(mask)],
        )
        for mask in ("none", "keys", "pairs", "one for all", "of heads")
    },
}  # fmt: skip


def mask_of(kind: str) -> list[Tensor]:
    """What is added to the logits."""
    shapes = {"none": [], "keys": [(B, 1, 1, N + L)], "pairs": [(B, 1, N, N + L)], "one for all": [(1, 1, N, N + L)],
              "of heads": [(B, H, N, N + L)]}  # fmt: skip
    return [draw(*shape) for shape in shapes[kind]]


def run(function: Callable[..., Any], inputs: list[Tensor], grads: list[Tensor] | None) -> tuple[list, list]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    outputs = function(*leaves)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    grads = grads or [torch.ones_like(o) for o in outputs]
    back = torch.autograd.grad(outputs, leaves, [g.to(o.dtype) for g, o in zip(grads, outputs, strict=True)])
    return outputs, list(back)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 5e-6), (torch.bfloat16, 0.02)])
def test_values_and_gradients_are_the_plain_form_s(case, dtype, tolerance):
    function, plain, make = CASES[case]
    inputs = [x.to(dtype) for x in make()]
    exact = [x.double() for x in inputs]  # rounded alike, so that only the arithmetic differs
    grads = [draw(*o.shape).to(dtype) for o in run(plain, exact, None)[0]]
    (made, back), (expected, expected_back) = (
        run(function, inputs, grads),
        run(plain, exact, [g.double() for g in grads]),
    )
    for got, true in zip([*made, *back], [*expected, *expected_back], strict=True):
        assert got.dtype == dtype
        got, true = got.detach().double(), true.detach()
        assert (got - true).abs().max() <= tolerance * max(1.0, float(true.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_values(case):
    function, _, make = CASES[case]
    assert torch.autograd.gradcheck(function, [x.requires_grad_() for x in make()], fast_mode=False)


@pytest.mark.parametrize("channels, groups, side", [(24, 2, (6, 4)), (24, 2, (3, 5)), (48, 4, (2, 2)), (7, 7, (3, 1))])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 5e-6), (torch.bfloat16, 0.02)])
def test_group_norm_with_silu_is_the_two(channels, groups, side, dtype, tolerance):
    x, (weight, bias) = (draw(2, channels, *side) + 5).to(dtype), draw(2, channels)
    got = ours.group_norm_silu(x, groups, weight, bias, EPS)
    expected = F.silu(F.group_norm(x.double(), groups, weight, bias, EPS))
    assert got.dtype == dtype and got.shape == x.shape
    assert (got.double() - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max()))


def test_large_and_masked_logits_and_what_is_no_number():
    q, k, v = draw(1, 1, 2, D).float() * 1e4, draw(1, 1, 4, D).float(), draw(1, 1, 4, D).float()
    mask = torch.zeros(1, 1, 1, 4)
    mask[..., 2:] = float("-inf")
    got = ours.SoftmaxAttention.apply(q, k, v, mask)
    assert torch.allclose(got, attention(q, k, v, mask), atol=1e-5)
    x = torch.linspace(-200, 200, 64)
    gated = ours.GatedGelu.apply(torch.cat([x, torch.ones(64)]))
    assert torch.allclose(gated, F.gelu(x, approximate="tanh"), atol=1e-5)
    for bad in (float("nan"), float("inf")):
        q[0, 0, 0, 0] = bad
        assert not ours.SoftmaxAttention.apply(q, k, v, mask)[0, 0, 0].isfinite().any()
        y = ours.Modulate.apply(torch.full((1, 1, C), bad), torch.zeros(1, 1, C), torch.zeros(1, 1, C), EPS)
        assert not y.isfinite().any()
        for dtype in (torch.float32, torch.bfloat16):
            assert not ours.GatedGelu.apply(torch.full((2,), bad, dtype=dtype)).isfinite().any()


@pytest.fixture
def plain_forms(monkeypatch) -> Iterator[Callable[[], None]]:
    """A switch that takes the kernels away."""
    yield lambda: monkeypatch.setattr(kernels, "usable", lambda _: False)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("keep", [1.0, 0.5])
@pytest.mark.parametrize("lower", [False, True])
def test_the_whole_model_is_the_plain_one(plain_forms, recompute, keep, lower):
    torch.manual_seed(0)
    config = ModelConfig(width=32, heads=2, depth=4, patch=4, grounding=True, pooled_text=True, recompute=recompute)
    model = Transformer(config, text_width=16)
    for p in model.parameters():
        torch.nn.init.normal_(p, 0.1, std=0.2)  # the last layers begin at zero
    x, t = torch.randn(2, 3, 16, 16, generator=G), torch.tensor([0.2, 0.7])
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    text = TextTokens(torch.randn(2, 5, 16, generator=G), mask)
    visible = torch.stack([torch.randperm(16, generator=G)[:8] for _ in range(2)]) if keep < 1 else None

    def pass_through(lower: bool) -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            x0 = model(x, t, text, visible).x0
        x0.float().square().mean().backward()
        grads = [p.grad / (p.grad.norm() + 1e-12) for p in model.parameters() if p.grad is not None]
        return torch.cat([v.detach().flatten().float() for v in (x0, *grads)])

    fused = pass_through(lower)
    plain_forms()
    exact = pass_through(False)
    if lower:
        assert (fused - exact).norm() <= 1.2 * (pass_through(True) - exact).norm()
    else:
        assert (fused - exact).norm() <= 1e-4 * exact.norm()


def test_threads_change_nothing():
    function, _, make = CASES["split_heads False"]
    inputs, before, seen = [x.float() for x in make()], torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        seen.append(run(function, inputs, None))
    torch.set_num_threads(before)
    for one, three in zip([*seen[0][0], *seen[0][1]], [*seen[1][0], *seen[1][1]], strict=True):
        assert torch.equal(one, three)


def test_without_a_compiler_the_plain_forms_are_taken_and_it_is_said(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("DAYBREAK_CACHE", str(tmp_path))
    for compiler, said in (("", "no C compiler"), ("false", "makes no kernels")):
        forget()
        monkeypatch.setenv("CC", compiler)
        monkeypatch.setenv("PATH", str(tmp_path) if not compiler else "/usr/bin:/bin")
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="daybreak"):
            assert not kernels.usable(torch.zeros(1)) and not kernels.usable(torch.zeros(1))
        assert [said in r.message for r in caplog.records] == [True]
    forget()


def forget() -> None:
    """What was found out about compilers."""
    kernels._library.cache_clear()
    kernels._compiler.cache_clear()


def test_attention_under_autocast_is_in_its_format_whatever_it_is_given():
    """As torch's own; adapters and rotations hand over float32 there."""
    q, k, v = (torch.randn(2, 3, 40, 16, requires_grad=True) for _ in range(3))
    found = []
    for attention in (lambda: attend(q, k, v, None), lambda: F.scaled_dot_product_attention(q, k, v)):
        with torch.autocast("cpu", torch.bfloat16):
            out = attention()
        assert out.dtype == torch.bfloat16
        found.append([out.float(), *torch.autograd.grad(out.float().square().sum(), (q, k, v))])
    for ours_, theirs in zip(*found, strict=True):
        assert torch.allclose(ours_, theirs, atol=0.05 * float(theirs.detach().abs().max()))
    with torch.autocast("cpu", torch.bfloat16):  # asked directly, it stays in the format of what comes in
        assert ours.SoftmaxAttention.apply(q, k, v, None).dtype == torch.float32
