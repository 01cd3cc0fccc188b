"""The grounding loss: where words belong, and that they learn it."""

import math

import pytest
import torch

from daybreak.data.batch import Phrase
from daybreak.data.scenes.source import ScenesSource
from daybreak.encoders.text import TextEncoder
from daybreak.losses.grounding import GroundingTarget, grounding_loss, grounding_target
from daybreak.model.grounding import Grounding, place_features
from daybreak.train.pixel import StepRandomness, training_loss
from tests.conftest import tiny_demo


def test_the_target_of_a_known_box():
    # On a grid of 4 x 4, a box over the second and third column of the first row; it ends short of the others' edges.
    phrase = Phrase(2, 12, (0.30, 0.02, 0.70, 0.20))
    offsets = [(0, 1), (1, 5), (5, 12), (12, 13), (0, 0)]  # "a", " red", " circle", ",", and the end mark
    target = grounding_target([[], [phrase]], [offsets, offsets], 4, 4)
    assert target.caption.tolist() == [1, 1] and target.word.tolist() == [1, 2]
    expected = torch.zeros(4, 4)
    expected[0, 1:3] = 1
    assert torch.equal(target.places, expected.flatten().expand(2, -1))


def test_a_box_reaches_a_margin_farther_and_rows_are_not_columns():
    touching = Phrase(0, 1, (0.0, 0.0, 0.5, 0.2))  # ends at the edge of the third column
    target = grounding_target([[touching]], [[(0, 1)]], 2, 4)
    assert target.places.view(2, 4).tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]


def test_captions_without_phrases_ask_for_nothing():
    target = grounding_target([[], []], [[(0, 3)], [(0, 0)]], 4, 4)
    assert target.places.shape == (0, 16)
    logits = torch.randn(2, 3, 16, requires_grad=True)
    loss = grounding_loss(logits, target)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_the_loss_is_the_cross_entropy_of_the_named_words_and_falls_as_they_match():
    places = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    target = GroundingTarget(torch.tensor([0, 1]), torch.tensor([2, 0]), places)
    logits = torch.randn(2, 3, 4)
    p = torch.sigmoid(torch.stack([logits[0, 2], logits[1, 0]]))
    by_hand = -(places * p.log() + (1 - places) * (1 - p).log()).mean()
    assert torch.allclose(grounding_loss(logits, target), by_hand, atol=1e-6)
    right = torch.zeros(2, 3, 4)
    right[0, 2], right[1, 0] = 2 * places[0] - 1, 2 * places[1] - 1
    losses = [grounding_loss(scale * right, target).item() for scale in (-3, 0, 1, 3, 30)]
    assert losses == sorted(losses, reverse=True) and losses[1] == pytest.approx(math.log(2)) and losses[-1] < 1e-6


def test_words_learn_their_places():
    torch.manual_seed(0)
    grounding = Grounding(24)
    features, text = place_features(8, 8, torch.device("cpu")), torch.randn(1, 4, 24)
    boxes = [(0.1, 0.1, 0.3, 0.3), (0.6, 0.2, 0.8, 0.4), (0.3, 0.6, 0.9, 0.9), (0.0, 0.0, 0.1, 1.0)]
    phrases = [[Phrase(i, i + 1, box) for i, box in enumerate(boxes)]]
    target = grounding_target(phrases, [[(i, i + 1) for i in range(4)]], 8, 8)
    optimizer = torch.optim.Adam(grounding.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        grounding_loss(grounding(text, features), target).backward()
        optimizer.step()
    assert ((grounding(text, features)[0] > 0) == (target.places > 0)).float().mean() > 0.98


def test_a_step_grounds_the_captions_that_are_read():
    """Of a dropped caption nothing is known: with all of them dropped there is nothing to learn."""
    from daybreak.model.transformer import Transformer

    config = tiny_demo()
    source = ScenesSource(32, 0, dense=0.9)
    torch.manual_seed(0)
    encoder = TextEncoder.create(source.some_captions(200), config.text)
    transformer = Transformer(config.model, encoder.width, config.routing)
    batch = source.batch(0, 4)
    random = StepRandomness.draw((4, 3, 32, 32), config, torch.Generator().manual_seed(0))
    terms, reads = {}, []

    class Counting:
        def __call__(self, *arguments, **named):
            reads.append(arguments)
            return tokenizer(*arguments, **named)

        def __getattr__(self, name):
            return getattr(tokenizer, name)

    tokenizer, encoder.tokenizer = encoder.tokenizer, Counting()
    for dropped in (False, True):
        drop = torch.full((4,), dropped)
        chosen = StepRandomness(random.noise, random.t, drop, random.visible, random.path_drop)
        terms[dropped] = training_loss(transformer, encoder, batch, chosen, config)[1]["grounding"]
    assert len(reads) == 2  # captions are tokenized once a step
    encoder.tokenizer = tokenizer
    assert terms[True] == 0 and terms[False] == pytest.approx(math.log(2), abs=0.5)
    # Token by token: those of a phrase are the phrase.
    offsets = encoder(batch.captions, offsets=True).offsets
    target = grounding_target(batch.phrases, offsets, 8, 8)
    for i, (caption, said) in enumerate(zip(batch.captions, batch.phrases, strict=True)):
        words = [offsets[i][w] for w in target.word[target.caption == i].tolist()]
        read = "".join(caption[start:end] for start, end in words).replace(" ", "")
        assert read == "".join(caption[p.start : p.end] for p in said).replace(" ", "")
