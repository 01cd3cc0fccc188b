"""The detail head, beside a plain reference and beside the transformer without it."""

import pytest
import torch
import torch.nn.functional as F

from daybreak.config import ModelConfig
from daybreak.model.detail import Detail
from daybreak.model.transformer import Transformer
from daybreak.optim.groups import split_parameters
from tests.formats.test_prx_keys import TEXT_WIDTH, inputs, randomize

PLAIN = {"width": 64, "depth": 2, "heads": 2, "patch": 4}


def build(**model) -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig(**(PLAIN | model)), TEXT_WIDTH)


def by_hand(head: Detail, x_t: torch.Tensor, coarse: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """One picture: convolutions as products over windows, the token of each pixel looked up."""
    _, height, width = x_t.shape

    def convolve(layer: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        around = F.pad(x, (1, 1, 1, 1))
        windows = torch.stack([around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)])
        kernel = layer.weight.permute(2, 3, 1, 0).flatten(0, 1)  # [9, in, out]
        return torch.einsum("kchw,kco->ohw", windows, kernel) + layer.bias[:, None, None]

    token_of = [[(i // head.patch) * (width // head.patch) + j // head.patch for j in range(width)]
                for i in range(height)]  # fmt: skip
    told = head.modulation(tokens)[torch.tensor(token_of)].permute(2, 0, 1)  # [4 c, H, W]
    x = convolve(head.enter, torch.cat([x_t, coarse]))
    for residual, part in zip(head.residuals, told.chunk(2), strict=True):
        shift, scale = part.chunk(2)
        x = x + convolve(residual.second, F.silu(convolve(residual.first, F.silu(x)) * (1 + scale) + shift))
    return convolve(head.leave, F.silu(x))


def test_it_is_what_the_equation_says():
    torch.manual_seed(0)
    head = Detail(5, 12, 4)
    g = torch.Generator().manual_seed(1)
    x_t, coarse, tokens = (torch.randn(2, *s, generator=g) for s in ((3, 8, 16), (3, 8, 16), (8, 12)))
    with torch.no_grad():
        made = head(x_t, coarse, tokens)
        expected = torch.stack([by_hand(head, *one) for one in zip(x_t, coarse, tokens, strict=True)])
    assert made.std() > 0.01
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", [{}, {"start": "identity"}, {"predicts": "velocity"},
                                   {"layout": "joint", "modulation": "none"}])  # fmt: skip
def test_it_begins_as_the_plain_model_to_the_bit(model):
    plain, whole = build(**model), build(**model, detail=8)
    state = whole.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    x, t, text = inputs()
    torch.nn.init.normal_(plain.final.weight, generator=torch.Generator().manual_seed(3))
    whole.final.weight.data.copy_(plain.final.weight)
    with torch.no_grad():
        assert torch.equal(whole(x, t, text).x0, plain(x, t, text).x0)


def test_a_gradient_reaches_every_parameter():
    network = build(detail=8)
    randomize(network)
    x, t, text = inputs()
    network(x, t, text).x0.square().sum().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_all_of_a_new_head_learns_after_one_step():
    network = build(detail=8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, t, text = inputs()
    for _ in range(2):
        optimizer.zero_grad()
        (network(x, t, text).x0 - x).square().mean().backward()
        optimizer.step()
    assert not [name for name, p in network.detail.named_parameters() if not p.grad.any()]


def test_it_reaches_over_the_edges_of_patches():
    torch.manual_seed(0)
    head = Detail(8, 12, 4)
    x_t, tokens = torch.randn(1, 3, 24, 24), torch.randn(1, 36, 12)
    other = x_t.clone()
    other[0, :, 11, 12] += 1
    with torch.no_grad():
        changed = (head(x_t, x_t, tokens) - head(other, x_t, tokens)).abs().sum(dim=1)[0] > 0
    rows, columns = changed.nonzero().unbind(dim=1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 17, 6, 18)


def test_adamw_trains_it_with_channels_last():
    network = build(detail=8)
    muon, adam = split_parameters({"transformer": network})
    assert not [name for name in muon if ".detail." in name]
    kernels = {name: p for name, p in adam.items() if ".detail." in name and p.ndim == 4}
    assert len(kernels) == 6 and "transformer.detail.modulation.weight" in adam
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels.values())
