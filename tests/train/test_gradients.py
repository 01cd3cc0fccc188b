"""The gradient that several cores compute together is the one that a single core computes."""

import pytest
import torch
from conftest import tiny_config

from daybreak.data.scenes.source import ScenesSource
from daybreak.encoders.text import TextEncoder
from daybreak.model.transformer import Transformer
from daybreak.train.gradients import GradientWorkers
from daybreak.train.step import StepRandomness, training_loss


@pytest.mark.parametrize("size", [7, 16, 27])
def test_shares_add_up_to_the_whole(size):
    config = tiny_config(diffusion__p_uncond=0.3)
    torch.manual_seed(0)
    source = ScenesSource(32, seed=1)
    text = TextEncoder.create(source.some_captions(100), config.text)
    model = Transformer(config.model, text.width)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    parameters = [*model.parameters(), *text.parameters()]
    batch = source.batch(0, size)
    random = StepRandomness.draw(batch.images.shape, config, torch.Generator().manual_seed(3))

    def loss_of(part, randomness):
        return training_loss(model, text, part, randomness, config)

    loss, terms = loss_of(batch, random)
    loss.backward()
    expected = [p.grad.clone() for p in parameters]
    for p in parameters:
        p.grad = None
    threads = torch.get_num_threads()
    workers = GradientWorkers(parameters, torch.device("cpu"))
    shared, shared_terms = workers.backward(loss_of, batch, random)
    workers.close()
    assert torch.get_num_threads() == threads
    assert shared.item() == pytest.approx(loss.item(), rel=1e-5)
    assert shared_terms.keys() == terms.keys()
    for p, e in zip(parameters, expected, strict=True):
        assert (p.grad - e).norm() <= 1e-4 * e.norm() + 1e-7
