"""Guidance: by what a routed prediction misses, and by the empty caption."""

import pytest
import torch

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.routing import sample_visible
from daybreak.model.transformer import Transformer
from daybreak.sampling.generate import generate
from daybreak.sampling.guidance import Routed, classifier_free, conditional, routed
from daybreak.train.loop import train
from tests.conftest import tiny_config


def network():
    torch.manual_seed(0)
    model = Transformer(ModelConfig(width=32, depth=4, heads=2, patch=4), 24, RoutingConfig(keep=0.5, start=1, end=3))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return model.eval()


def test_routed_guidance_is_its_equation():
    model, x = network(), torch.randn(2, 3, 16, 16)
    text = TextTokens(torch.randn(2, 4, 24), torch.ones(2, 4, dtype=torch.bool), padded=False)
    empty = TextTokens(torch.randn(2, 1, 24), torch.ones(2, 1, dtype=torch.bool), padded=False)
    t = torch.full((2,), 0.7)
    with torch.no_grad():
        for weaker in (text, empty):
            seen = sample_visible(2, 16, 0.5, torch.Generator().manual_seed(5))
            dense, sparse = model(x, t, text).x0, model(x, t, weaker, seen).x0
            got = routed(model, text, weaker, Routed(0.5, torch.Generator().manual_seed(5)), 2.5)(x, t)
            assert torch.allclose(got, sparse + 2.5 * (dense - sparse), atol=1e-5)
            assert not torch.allclose(got, dense, atol=1e-3)
        one = routed(model, text, text, Routed(0.5, torch.Generator()), 1.0)(x, t)
        outside = routed(model, text, text, Routed(0.5, torch.Generator()), 2.5, (0.0, 0.6))(x, t)
        assert torch.equal(one, dense) and torch.equal(outside, dense)


def test_a_routed_run_draws_with_each_kind_of_guidance(tmp_path):
    config = tiny_config(model__depth=4, routing__keep=0.5, routing__start=1, train__steps=2)
    state = train(config, tmp_path / "run", [])
    with torch.no_grad():  # away from the start, where the blocks do nothing yet
        for p in state.average.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    pictures = {}
    for kind in ("classifier_free", "routed", "both"):
        c = tiny_config(model__depth=4, routing__keep=0.5, routing__start=1, sample__guidance_kind=kind)
        pictures[kind] = generate(state.average, state.average_text, ["a red circle"] * 2, c, 3)
        assert torch.equal(pictures[kind], generate(state.average, state.average_text, ["a red circle"] * 2, c, 3))
    assert not torch.equal(pictures["routed"], pictures["classifier_free"])
    assert not torch.equal(pictures["routed"], pictures["both"])


@pytest.mark.parametrize("guided", [False, True])
def test_a_sampler_s_model_reads_its_text_once(guided):
    model = network()
    mask = torch.tensor([[True, True, True], [True, False, False]])
    text, empty = TextTokens(torch.randn(2, 3, 24), mask), TextTokens(torch.randn(2, 1, 24), mask[:, :1])
    denoise = classifier_free(model, text, empty, 2.0) if guided else conditional(model, text)
    readings = []
    for block in model.blocks:
        block.attention.text_kv.register_forward_hook(lambda *_: readings.append(1))
    with torch.no_grad():
        for t in (0.9, 0.4):
            x_t, times = torch.randn(2, 3, 8, 8), torch.full((2,), t)
            found, count = denoise(x_t, times), len(readings)
            expected = model(x_t, times, text).x0
            if guided:
                without = model(x_t, times, empty).x0
                expected = without + 2 * (expected - without)
            assert torch.allclose(found, expected, atol=1e-5)
            del readings[count:]
    assert len(readings) == len(model.blocks)
