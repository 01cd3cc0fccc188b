"""Every parameter has one optimiser; the learning rate rises, stays and falls."""

import pytest
import torch

from daybreak.encoders.text import TextEncoder
from daybreak.model.transformer import Transformer
from daybreak.optim.groups import build_optimizers, split_parameters
from daybreak.optim.schedule import learning_rate_factor
from tests.conftest import tiny_config


def test_every_parameter_is_in_one_group_and_moves():
    config = tiny_config(model__bottleneck=8, model__size_conditioning="true")
    text = TextEncoder.create(["a red circle", "two squares"], config.text)
    model = Transformer(config.model, text.width)
    muon, adam = split_parameters({"transformer": model, "text_encoder": text})
    assert not muon.keys() & adam.keys()
    everything = [*model.parameters(), *text.parameters()]
    assert {id(p) for p in [*muon.values(), *adam.values()]} == {id(p) for p in everything}
    assert all(p.ndim == 2 for p in muon.values())
    assert "transformer.blocks.0.attention.qkv.weight" in muon
    assert "transformer.blocks.0.modulation.linear.weight" in adam
    assert "transformer.final.weight" in adam
    assert not any("embed" in n or "shared" in n for n in muon)
    before = [p.detach().clone() for p in everything]
    for p in everything:
        p.grad = torch.ones_like(p) + 0.1 * torch.randn_like(p)
    for optimizer in build_optimizers({"transformer": model, "text_encoder": text}, config.optim, torch.float32):
        optimizer.step()
    assert all(not torch.equal(p, b) for p, b in zip(everything, before, strict=True))


@pytest.mark.parametrize(
    ("step", "progress", "expected"),
    [(0, 0.0, 0.1), (4, 0.01, 0.5), (9, 0.02, 1.0), (50, 0.5, 1.0), (60, 0.6, 1.0), (80, 0.8, 0.5), (100, 1.0, 0.0)],
)
def test_the_schedule(step, progress, expected):
    assert learning_rate_factor(step, progress, warmup_steps=9, decay_share=0.4) == pytest.approx(expected)
