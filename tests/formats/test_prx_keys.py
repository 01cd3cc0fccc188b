"""The transformer computes what diffusers' PRXTransformer2DModel computes, with the same weights, both ways."""

import pytest
import torch
from diffusers import PRXTransformer2DModel

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.formats.prx_keys import from_prx, is_prx, prx_config, to_prx
from daybreak.model.transformer import Transformer

TEXT_WIDTH = 24
CONFIGS = {
    "plain": ModelConfig(width=64, depth=3, heads=4, patch=4),
    "bottleneck": ModelConfig(width=96, depth=2, heads=2, patch=8, bottleneck=16, mlp_ratio=2.5),
    "size conditioning": ModelConfig(width=64, depth=2, heads=2, patch=4, size_conditioning=True, bottleneck=12),
}


def randomize(module: torch.nn.Module) -> None:
    """Every parameter random, those too that start at zero or one."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.1 + (1.0 if p.ndim == 1 else 0.0))


def inputs(length: int = 7) -> tuple[torch.Tensor, torch.Tensor, TextTokens]:
    g = torch.Generator().manual_seed(2)
    mask = torch.ones(3, length, dtype=torch.bool)
    mask[0, 4:] = False
    mask[2, 1:] = False
    x = torch.randn(3, 3, 32, 48, generator=g)
    return x, torch.tensor([0.03, 0.5, 1.0]), TextTokens(torch.randn(3, length, TEXT_WIDTH, generator=g), mask)


@pytest.mark.parametrize("name", CONFIGS)
def test_our_weights_in_theirs(name):
    ours = Transformer(CONFIGS[name], TEXT_WIDTH).eval()
    randomize(ours)
    theirs = PRXTransformer2DModel(**prx_config(CONFIGS[name], TEXT_WIDTH)).eval()
    theirs.load_state_dict(to_prx(ours.state_dict(), CONFIGS[name].heads))
    compare(ours, theirs)


@pytest.mark.parametrize("name", CONFIGS)
def test_their_weights_in_ours(name):
    theirs = PRXTransformer2DModel(**prx_config(CONFIGS[name], TEXT_WIDTH)).eval()
    randomize(theirs)
    ours = Transformer(CONFIGS[name], TEXT_WIDTH).eval()
    ours.load_state_dict(from_prx(theirs.state_dict(), CONFIGS[name].heads))
    compare(ours, theirs)


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back_is_exact(name):
    ours = Transformer(CONFIGS[name], TEXT_WIDTH)
    randomize(ours)
    heads = CONFIGS[name].heads
    back = from_prx(to_prx(ours.state_dict(), heads), heads)
    assert back.keys() == ours.state_dict().keys()
    assert all(torch.equal(back[k], v) for k, v in ours.state_dict().items())


def test_a_foreign_name_is_an_error():
    with pytest.raises(KeyError, match=r"blocks\.0\.nonsense"):
        from_prx({"blocks.0.nonsense.weight": torch.zeros(2)}, 2)


def compare(ours: Transformer, theirs: PRXTransformer2DModel) -> None:
    x, t, text = inputs()
    with torch.no_grad():
        a = ours(x, t, text).x0
        b = theirs(x, t, text.embeddings, attention_mask=text.mask).sample
    assert a.abs().max() > 0.5
    assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("changes", [{"layout": "joint", "modulation": "none"}, {"modulation": "shared"},
                                     {"text_blocks": 1}, {"predicts": "velocity"}, {"convolutions": (8, 8)},
                                     {"detail": 8}, {"text_convolutions": 1}, {"pooled_text": True},
                                     {"grounding": True}])  # fmt: skip
def test_a_network_that_diffusers_does_not_have_is_no_prx(changes):
    assert is_prx(ModelConfig(), RoutingConfig(keep=0.5))
    assert not is_prx(ModelConfig(**changes), RoutingConfig())


def test_sprints_fusion_is_no_prx():
    assert not is_prx(ModelConfig(), RoutingConfig(method="sprint"))
