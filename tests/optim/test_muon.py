"""Muon against torch's own, and its Newton-Schulz against the singular value decomposition."""

import pytest
import torch

from daybreak.optim.muon import POLAR_EXPRESS, QUINTIC, Muon, orthogonalize

SHAPES = [(32, 32), (64, 32), (32, 96), (64, 32)]


def matrices(seed: int) -> list[torch.nn.Parameter]:
    g = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(s, generator=g)) for s in SHAPES]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_agrees_with_torch_step_by_step(weight_decay):
    ours, theirs = matrices(0), matrices(0)
    a = Muon(ours, lr=0.01, momentum=0.9, weight_decay=weight_decay, dtype=torch.bfloat16)
    b = torch.optim.Muon(
        theirs, lr=0.01, momentum=0.9, weight_decay=weight_decay, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(10):
        for p, q, g in zip(ours, theirs, matrices(100 + step), strict=True):
            p.grad, q.grad = g.detach().clone(), g.detach().clone()
        before = [p.detach().clone() for p in ours]
        a.step()
        b.step()
        for p, q, old in zip(ours, theirs, before, strict=True):
            moved = (q - old).norm()
            assert (p - q).norm() < 0.08 * moved  # bfloat16 has 8 bits: products summed in another order differ
        with torch.no_grad():
            for p, q in zip(ours, theirs, strict=True):
                p.copy_(q)


@pytest.mark.parametrize("shape", [(1, 48, 48), (2, 96, 32), (1, 32, 96), (3, 32, 40)])
def test_float32_follows_the_polynomial_on_the_singular_values(shape):
    m = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, s, vt = torch.linalg.svd(m.double(), full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expected = u @ torch.diag_embed(s) @ vt
    assert (orthogonalize(m).double() - expected).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(2, 32, 96), (1, 384, 64), (2, 64, 448)])
def test_bfloat16_is_as_near_the_polynomial_as_plain_iterations_are(shape):
    m = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, s, vt = torch.linalg.svd(m, full_matrices=False)
    m = u @ torch.diag_embed(s * torch.logspace(0, -2, s.shape[-1])) @ vt  # small singular values are the hard ones

    def plain(x: torch.Tensor) -> torch.Tensor:
        x = x / x.norm(dim=(-2, -1), keepdim=True)
        for a, b, c in QUINTIC:
            gram = x @ x.mT
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x

    exact = plain(m.double())
    ours, theirs = orthogonalize(m.bfloat16()).double(), plain(m.bfloat16()).double()
    assert (ours - exact).norm() < 1.2 * (theirs - exact).norm() < 0.2 * exact.norm()


def test_singular_values_come_near_one():
    m = torch.randn(1, 64, 96, generator=torch.Generator().manual_seed(2))
    values = torch.linalg.svdvals(orthogonalize(m))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_the_update_has_the_size_of_an_adamw_update():
    p = torch.nn.Parameter(torch.zeros(64, 256))
    p.grad = torch.randn(64, 256, generator=torch.Generator().manual_seed(3))
    Muon([p], lr=1.0).step()
    assert 0.15 < p.detach().square().mean().sqrt().item() < 0.25


def test_with_turns_a_matrix_moves_every_other_step_by_twice_as_much():
    always, turns = matrices(0), matrices(0)
    a, b = Muon(always, lr=0.01, weight_decay=0.1), Muon(turns, lr=0.005, weight_decay=0.1, every=2)
    for step in range(6):
        before = [[p.detach().clone() for p in side] for side in (always, turns)]
        for side in (always, turns):
            for p, g in zip(side, matrices(100 + step), strict=True):
                p.grad = g.detach().clone()
        a.step()
        b.step()
        for place, (p, q, old, was) in enumerate(zip(always, turns, *before, strict=True)):
            if (step + 1 + place) % 2:
                assert torch.equal(q, was)
            else:  # of the same momentum the same update, for the rate is half as large
                assert torch.allclose(q, p, atol=1e-4 * float((p - old).detach().norm()))
            with torch.no_grad():  # so that weight decay takes the same from both
                p.copy_(q)


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


@pytest.mark.parametrize("shape", [(1, 48, 48), (1, 32, 96)])
def test_polar_express_brings_small_singular_values_near_one_too(shape):
    """Its polynomials are made for singular values from 0.001 on; the plain quintic leaves such ones far below."""
    g = torch.Generator().manual_seed(1)
    u, s, vt = torch.linalg.svd(torch.randn(shape, generator=g), full_matrices=False)
    s = torch.logspace(0, -2.5, s.shape[-1])[None]
    m = u @ torch.diag_embed(s) @ vt
    values = torch.linalg.svdvals(orthogonalize(m, POLAR_EXPRESS))
    assert values.min() > 0.8
    assert values.max() < 1.2
    assert torch.linalg.svdvals(orthogonalize(m)).min() < 0.7


def test_polar_express_stays_near_one_in_bfloat16_where_singular_values_are_tiny():
    torch.manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(128, 128))[0], torch.linalg.qr(torch.randn(640, 128))[0]
    m = (left * torch.logspace(0, -4, 128)) @ right.mT
    result = orthogonalize(m[None].bfloat16(), POLAR_EXPRESS)[0].float()
    assert torch.linalg.matrix_norm(result, 2) < 1.5


def test_normuon_moves_every_row_alike_and_keeps_the_size():
    """Rows of very different gradients: Muon's first update has rows of unequal size where the matrix is tall."""
    g = torch.Generator().manual_seed(2)
    grad = torch.randn(96, 32, generator=g) * torch.logspace(0, -2, 96)[:, None]
    rows = {}
    for name, beta in (("muon", None), ("normuon", 0.95)):
        p = torch.nn.Parameter(torch.zeros(96, 32))
        p.grad = grad.clone()
        Muon([p], lr=1.0, row_beta=beta).step()
        rows[name] = p.detach().norm(dim=1)
    assert rows["normuon"].std() / rows["normuon"].mean() < 1e-3
    assert rows["muon"].std() / rows["muon"].mean() > 0.5
    assert rows["normuon"].norm() == pytest.approx(rows["muon"].norm().item(), rel=1e-3)
