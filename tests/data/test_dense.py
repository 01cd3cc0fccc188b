"""Dense captions, and where captions speak of what: held against the scenes themselves and their pixels."""

import re

import numpy as np
import pytest
import torch
from scipy import ndimage

from daybreak.config import TextConfig
from daybreak.data.batch import Batch, Phrase
from daybreak.data.scenes.captions import captions_of, phrases_of, plural, specs_of
from daybreak.data.scenes.dense import PERCENT_STEP, ROUGH, dense_captions
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import training_scenes
from daybreak.data.scenes.source import DEFAULT_TASK_WEIGHTS, ScenesSource
from daybreak.data.scenes.world import BACKGROUND_NAMES, COLOR_NAMES, SHAPES, SIZES
from daybreak.encoders.tokenizer import CaptionTokenizer

N = 1500
DRAWS = Draws(11, np.arange(N))
SCENES = training_scenes(DRAWS, DEFAULT_TASK_WEIGHTS)
DENSE = dense_captions(SCENES, DRAWS)


def described(i: int, k: int) -> str:
    """Object k of scene i in words."""
    return f"{SIZES[SCENES.size[i, k]]} {COLOR_NAMES[SCENES.color[i, k]]} {SHAPES[SCENES.shape[i, k]]}"


def test_a_dense_caption_names_every_object_where_it_is():
    exact = 0
    for i, (caption, mentions) in enumerate(DENSE):
        assert BACKGROUND_NAMES[SCENES.background[i]] in caption
        assert sorted(objects for _, _, objects in mentions) == [(k,) for k in range(SCENES.count[i])]
        assert [m[0] for m in mentions] == sorted(m[0] for m in mentions)
        for start, end, (k,) in mentions:
            phrase = caption[start:end]
            assert re.match(rf"a {described(i, k)} \S", phrase), phrase
            numbers = [int(n) for n in re.findall(r"(\d+)%", phrase)]
            if numbers:
                exact += 1
                for said, there in zip(numbers, (SCENES.x[i, k], SCENES.y[i, k]), strict=True):
                    assert said % PERCENT_STEP == 0 and abs(said - 100 * there) <= PERCENT_STEP / 2
            else:
                row, column = int(3 * SCENES.y[i, k]), int(3 * SCENES.x[i, k])
                assert phrase.endswith(ROUGH[row][column])
        # Nothing else is named: between the phrases there are no colours.
        spans = [0, *(edge for start, end, _ in mentions for edge in (start, end)), len(caption)]
        rest = "".join(caption[a:b] for a, b in zip(spans[::2], spans[1::2], strict=True))
        assert not set(re.findall("[a-z]+", rest)) & {*COLOR_NAMES, *SHAPES, *SIZES}
    assert 0.85 < exact / SCENES.count.sum() < 0.95


def test_dense_captions_are_a_function_of_seed_and_number_and_keep_the_order_of_reading():
    some = Draws(11, np.arange(700, 740))
    assert dense_captions(training_scenes(some, DEFAULT_TASK_WEIGHTS), some) == DENSE[700:740]
    assert len({caption for caption, _ in DENSE}) > 0.99 * N
    assert not any(re.search(r"\d", caption) for caption, _ in dense_captions(SCENES, DRAWS, p_rough=1.0))
    for i, (_, mentions) in enumerate(DENSE):
        order = [k for _, _, (k,) in mentions]
        places = [(int(3 * SCENES.y[i, k]), SCENES.x[i, k]) for k in order]
        assert places == sorted(places)


def test_short_captions_are_sentences():
    specs = specs_of(SCENES, DRAWS)
    captions = captions_of(specs, DRAWS)
    several = [bool(re.search("two|three|four", c)) for c in captions]
    assert any("there are" in c for c in captions) and any("there is" in c for c in captions)
    for caption, many in zip(captions, several, strict=True):
        assert not many or "there is" not in caption
        assert many or "there are" not in caption
        assert caption.count(" is ") + caption.count(" are ") <= 1, caption  # no "there is a circle is above a square"


def test_phrases_are_the_words_for_the_objects():
    specs = specs_of(SCENES, DRAWS)
    for spec, caption in zip(specs, captions_of(specs, DRAWS), strict=True):
        phrases = phrases_of(spec, caption)
        assert sorted(k for _, _, objects in phrases for k in objects) == list(range(len(spec.objects)))
        for start, end, objects in phrases:
            first = spec.objects[objects[0]]
            last = plural(first.shape) if len(objects) > 1 else first.shape
            words = caption[start:end].split()
            assert words[0] in ("a", "an", "one", "two", "three", "four")
            assert words[1:] == [w for w in (first.size, first.color, last) if w]
            assert caption[end : end + 1] in ("", " ", ",")  # whole words


def test_plural_words_are_whole_tokens_of_their_phrase():
    """A tokenizer of these captions has `circles` as one token, which a phrase that ends before the s would miss."""
    from daybreak.losses.grounding import grounding_target

    specs = specs_of(SCENES, DRAWS)
    captions = captions_of(specs, DRAWS)
    tokenizer = CaptionTokenizer.train(captions, TextConfig(vocabulary=512))
    i = next(i for i, c in enumerate(captions) if "three" in c and "circles" in c)
    offsets = tokenizer.encode([captions[i]])[0].offsets
    ((start, end, _),) = phrases_of(specs[i], captions[i])
    target = grounding_target([[Phrase(start, end, (0, 0, 1, 1))]], [offsets], 2, 2)
    words = [captions[i][slice(*offsets[w])].strip() for w in target.word.tolist()]
    assert " ".join(words) == captions[i][start:end]
    assert "circles" in words


@pytest.mark.parametrize("dense", [0.0, 0.3, 1.0])
def test_the_source_mixes_captions_by_share(dense):
    source, short = ScenesSource(32, seed=5, dense=dense), ScenesSource(32, seed=5)
    captions, plain = source.some_captions(1200), short.some_captions(1200)
    changed = np.array([a != b for a, b in zip(captions, plain, strict=True)])
    assert abs(changed.mean() - dense) < 0.05
    assert captions[100:164] == source.batch(100, 64).captions  # of seed and number, not of the batch
    assert torch.equal(source.batch(100, 8).images, short.batch(100, 8).images)
    assert source.scenes(0, 50)[2] == captions[:50] and source.scenes(0, 50)[1] == short.scenes(0, 50)[1]


@pytest.mark.parametrize("dense", [0.0, 1.0])
def test_boxes_of_phrases_hold_the_pixels_of_what_they_name(dense):
    side = 64
    batch = ScenesSource(side, seed=9, dense=dense).batch(0, 150)
    axis = (np.arange(side) + 0.5) / side
    for image, caption, phrases in zip(batch.images.numpy(), batch.captions, batch.phrases, strict=True):
        thing = np.abs(image - image[:, :1, :1]).sum(axis=0) > 0.5  # the corner is background
        held = np.zeros_like(thing)
        colors = {}
        for phrase in phrases:
            left, top, right, bottom = phrase.box
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
            inside = (axis > left) & (axis < right) & ((axis > top) & (axis < bottom))[:, None]
            held |= inside
            columns, rows = thing[inside.any(1)].any(0) & (axis > left) & (axis < right), (thing & inside).any(1)
            for found, low, high in ((columns, left, right), (rows, top, bottom)):
                at = axis[found]  # a triangle reaches less far down than up
                assert at.min() - low < 0.06 and high - at.max() < 0.06
            color = next((c for c in COLOR_NAMES if c in caption[phrase.start : phrase.end]), None)
            colors[color] = image[:, thing & inside].mean(axis=1)
        # Every pixel that stands out belongs to a phrase, but for the ramp of an outline at sharp corners.
        assert not (thing & ~ndimage.binary_dilation(held, np.ones((3, 3)), 2)).any(), caption
        if {"red", "cyan"} <= colors.keys():  # and each phrase has its own object
            assert colors["red"][0] > colors["cyan"][0] and colors["red"][2] < colors["cyan"][2]


def test_rows_of_a_batch_keep_their_phrases():
    phrases = [[Phrase(0, 3, (0.1 * i, 0, 1, 1))] for i in range(4)]
    batch = Batch(torch.zeros(4, 3, 8, 8), list("abcd"), phrases=phrases)
    some = batch.rows(slice(1, 3))
    assert some.captions == ["b", "c"] and some.phrases == phrases[1:3] and some.text is None
    assert Batch(torch.zeros(2, 3, 8, 8), ["a", "b"]).rows(slice(0, 1)).phrases is None


def test_the_longest_dense_caption_is_read_whole_by_the_demo():
    from daybreak.recipes import recipe

    config = recipe("scenes-demo")
    captions = ScenesSource(32, 0, config.data.task_weights, config.data.dense).some_captions(3000)
    tokenizer = CaptionTokenizer.train(captions, config.text)
    assert max(len(one.ids) for one in tokenizer.encode(captions)) <= config.text.max_tokens
