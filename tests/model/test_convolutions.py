"""Convolutions around the transformer and on its text, and the text's mean in the time embedding."""

import pytest
import torch

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.convolutions import SKIP, TextConvolutions
from daybreak.model.transformer import Transformer

TEXT_WIDTH = 24
SMALL = {"width": 32, "depth": 2, "heads": 2, "patch": 4, "mlp_ratio": 2.0, "convolutions": (8, 12),
         "text_convolutions": 2, "pooled_text": True, "grounding": True}  # fmt: skip


def build(**model) -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig(**(SMALL | model)), TEXT_WIDTH, RoutingConfig())


def grown(**model) -> Transformer:
    """The same away from its initial values, at which much of it is the identity."""
    network = build(**model)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return network


def inputs(side: int = 16, length: int = 6):
    g = torch.Generator().manual_seed(1)
    mask = torch.arange(length)[None] < torch.tensor([length, 3])[:, None]
    text = TextTokens(torch.randn(2, length, TEXT_WIDTH, generator=g), mask)
    return torch.randn(2, 3, side, side, generator=g), torch.tensor([0.3, 0.8]), text


@pytest.mark.parametrize("parts", [{}, {"convolutions": (), "start": "grey"}, {"grounding": False}])
def test_padding_changes_nothing(parts):
    network = grown(**parts)
    x, t, text = inputs()
    other = text.embeddings.masked_scatter(~text.mask[..., None].expand(-1, -1, TEXT_WIDTH), torch.randn(400))
    longer = TextTokens(torch.cat([other, torch.randn(2, 5, TEXT_WIDTH)], dim=1),
                        torch.cat([text.mask, torch.zeros(2, 5, dtype=torch.bool)], dim=1))  # fmt: skip
    with torch.no_grad():
        expected = network(x, t, text).x0
        assert torch.allclose(network(x, t, TextTokens(other, text.mask)).x0, expected, atol=1e-5)
        assert torch.allclose(network(x, t, longer).x0, expected, atol=1e-5)
        changed = TextTokens(text.embeddings.roll(1, 1), text.mask)
        assert not torch.allclose(network(x, t, changed).x0, expected, atol=1e-2)  # the words themselves do


def test_the_first_prediction_is_a_share_of_the_noisy_picture():
    x, t, text = inputs()
    with torch.no_grad():
        assert torch.equal(build()(x, t, text).x0, SKIP * x)


def test_other_resolutions_than_those_of_training_are_drawn():
    network = grown()
    for height, width in ((16, 16), (32, 16), (24, 40)):
        _, t, text = inputs()
        with torch.no_grad():
            made = network(torch.randn(2, 3, height, width), t, text)
        assert made.x0.shape == (2, 3, height, width)
        assert made.grounding.shape == (2, 6, height * width // 16)
        assert made.x0.isfinite().all()
    with pytest.raises(ValueError, match="18x16 px does not divide into patches of 4 px"):
        network(torch.randn(2, 3, 16, 18), t, text)


def test_a_gradient_reaches_every_parameter():
    network = grown()
    x, t, text = inputs()
    network(x, t, text).x0.square().sum().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_all_of_a_new_network_learns_after_three_steps():
    """The zeros that it begins with give way one after the other: the last layer's, residuals', those of blocks."""
    network = build()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for seed in range(4):
        x, t, text = inputs()
        made = network(x, t, text)
        target = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (made.x0 - target).square().mean().backward()
        optimizer.step()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_a_picture_at_another_place_is_another_picture():
    """Convolutions alone would not know where they are: the tokens are told."""
    network = grown(text_convolutions=0, grounding=False)
    torch.nn.init.zeros_(network.place_embedding.weight)
    x, t, _ = inputs()
    tokens = []
    for told in (0.0, 1.0):
        network.place_embedding.weight.data.fill_(told)
        with torch.no_grad():
            tokens.append(network._tokens(torch.zeros(1, 3, 16, 16), network.embed_time(t[:1], x), 4, 4)[0])
    inner = [5, 6, 9, 10]  # away from the picture's edge, where convolutions see zeros
    assert tokens[0][0, inner].var(dim=0).max() < tokens[1][0, inner].var(dim=0).max()
    assert torch.pdist(tokens[1][0]).min() > 1e-3


def test_a_word_hears_its_neighbours_and_no_further():
    torch.manual_seed(0)
    one = TextConvolutions(8, 1)
    x = torch.randn(1, 16, 8)
    y = x.clone()
    y[0, 8] += torch.randn(8)
    mask = torch.ones(1, 16, dtype=torch.bool)
    changed = (one(x, mask) - one(y, mask)).abs().sum(-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == list(range(4, 13))


def test_the_mean_of_the_text_tells_the_time_embedding_alone():
    network = grown(text_convolutions=0, grounding=False)
    x, t, text = inputs()
    order = torch.tensor([2, 0, 1, 3, 4, 5])
    shuffled = TextTokens(text.embeddings[:, order], text.mask)
    read = [network.embed_text(words, (torch.ones(6, 8), torch.zeros(6, 8))).pooled for words in (text, shuffled)]
    assert torch.allclose(*read, atol=1e-6)
    by_hand = torch.stack([text.embeddings[0].mean(0), text.embeddings[1, :3].mean(0)])
    assert torch.allclose(read[0], network.pooled_embedding(by_hand), atol=1e-6)
    plain, told = network.embed_time(t, x), network.embed_time(t, x, read[0])
    assert not torch.allclose(plain, told, atol=1e-3)


def test_kernels_lie_with_their_channels_last():
    kernels = [m.weight for m in build().modules() if isinstance(m, torch.nn.Conv2d)]
    assert kernels and all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)
