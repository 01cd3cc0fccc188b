"""Words with a place: what attention is told of them."""

import math

import pytest
import torch
import torch.nn.functional as F

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.grounding import FREQUENCIES, LEAST_BIAS, attention_bias, place_features
from daybreak.model.routing import sample_visible
from daybreak.model.transformer import Transformer, key_mask

TEXT_WIDTH = 24


def text_of(batch: int = 2, length: int = 5, padded: bool = True) -> TextTokens:
    g = torch.Generator().manual_seed(2)
    lengths = torch.tensor([length, 2 if padded else length])[:batch]
    mask = torch.arange(length)[None] < lengths[:, None]
    return TextTokens(torch.randn(batch, length, TEXT_WIDTH, generator=g), mask, padded)


def build(routing: RoutingConfig | None = None, **changes) -> Transformer:
    torch.manual_seed(0)
    sizes = {"width": 32, "depth": 4, "heads": 2, "patch": 4, "mlp_ratio": 2.0, "grounding": True} | changes
    network = Transformer(ModelConfig(**sizes), TEXT_WIDTH, routing)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return network


def test_a_word_that_belongs_is_heard_in_full_and_another_hardly():
    logits = torch.tensor([[[20.0, 0.0, -20.0]]])  # one word, three places
    bias = attention_bias(logits, None)
    assert bias.shape == (1, 1, 3, 1 + 3)
    assert torch.allclose(bias[0, 0, :, 0], torch.tensor([0.0, -math.log(2), LEAST_BIAS]), atol=1e-6)
    assert not bias[..., 1:].any()  # image tokens hear each other as before


@pytest.mark.parametrize("padded", [False, True])
def test_the_bias_adds_to_what_hides_padding(padded):
    text = text_of(padded=padded)
    logits = torch.randn(2, 5, 16)
    mask = key_mask(text, 16)
    bias = attention_bias(logits, mask)
    assert bias.shape == (2, 1, 16, 5 + 16)
    assert torch.isinf(bias[1, 0, :, 2:5]).all() == padded
    expected = F.logsigmoid(logits[0]).clamp(min=LEAST_BIAS).T
    assert torch.allclose(bias[0, 0, :, :5], expected)


def test_the_attention_is_that_of_its_formula():
    """In a picture whose words all belong nowhere, words get e^-6 of the attention that they get without the bias."""
    network = build(depth=1, heads=1)
    x, t, text = torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.7]), text_of(padded=False)
    with torch.no_grad():
        network.grounding.words.weight.zero_()
        network.grounding.words.bias.zero_()
        shares = []
        for bias in (50.0, -50.0):
            network.grounding.bias.fill_(bias)
            shares.append(network(x, t, text, look=True).attention.sum(-1))
    plain, faint = (s / (1 - s) for s in shares)
    assert torch.allclose(faint / plain, torch.full_like(plain, math.exp(LEAST_BIAS)), rtol=0.01)


def test_places_are_the_same_at_any_resolution():
    coarse, fine = (place_features(n, n, torch.device("cpu")) for n in (2, 6))
    assert coarse.shape == (4, 4 * FREQUENCIES)
    middles = fine.view(6, 6, -1)[1::3, 1::3].reshape(4, -1)  # of three by three, the middle one
    assert torch.allclose(coarse, middles, atol=1e-5)
    assert torch.pdist(place_features(16, 16, torch.device("cpu"))).min() > 0.5
    wide = place_features(2, 3, torch.device("cpu")).view(2, 3, 2, -1)
    assert torch.equal(wide[0, 1, 0], wide[0, 2, 0]) and torch.equal(wide[0, 1, 1], wide[1, 1, 1])  # rows first


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("method", ["tread", "sprint"])
def test_routed_tokens_hear_words_of_their_own_place(padded, method):
    routing = RoutingConfig(keep=0.5, start=1, end=3, method=method)
    network = build(routing)
    x, t, text = torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.7]), text_of(padded=padded)
    everyone = torch.arange(16).expand(2, -1)
    with torch.no_grad():
        dense = network(x, t, text)
        if method == "tread":
            assert torch.equal(network(x, t, text, everyone).x0, dense.x0)
        visible = sample_visible(2, 16, 0.5, torch.Generator().manual_seed(0))
        routed = network(x, t, text, visible)
    assert routed.x0.shape == dense.x0.shape and not torch.allclose(routed.x0, dense.x0)
    assert torch.equal(routed.grounding, dense.grounding)  # of all places, whoever stays
    # The masks that the middle blocks were given are the visible tokens' own rows.
    seen = []
    handle = network.blocks[1].register_forward_pre_hook(lambda _, args: seen.append(args[5]))
    with torch.no_grad():
        network(x, t, text, visible)
    handle.remove()
    whole = attention_bias(dense.grounding, key_mask(text, 16))
    rows = torch.stack([whole[i, :, visible[i]] for i in range(2)])[..., : 5 + 8]
    assert torch.equal(seen[0], rows)
