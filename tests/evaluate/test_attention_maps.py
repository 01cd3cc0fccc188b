"""What goes on inside is shown beside the samples, and leaves training as it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from daybreak.config import TextConfig
from daybreak.data.batch import to_uint8
from daybreak.data.open import open_source
from daybreak.diffusion.flow import interpolate
from daybreak.encoders.pretrained_text import PretrainedTextEncoder
from daybreak.encoders.text import TextEncoder, open_text_encoder
from daybreak.encoders.tokenizer import CaptionTokenizer
from daybreak.evaluate.attention_maps import (
    LEVELS,
    OTHERS,
    Look,
    draw_attention,
    draw_predictions,
    look_at_words,
    predict,
)
from daybreak.evaluate.samples_during_training import ATTENDED, COMPARED, EXAMPLES, Probe, spaced
from daybreak.formats.run import load_averaged
from daybreak.sampling.generate import generate, noise_of
from daybreak.train import checkpoint
from daybreak.train.loop import train
from daybreak.watch.report import write_report
from tests.conftest import samples_as_users_see_them, tiny_config
from tests.frozen import frozen_in

PROMPT = "A large  red circle, above"
ROUTED = {"model__depth": 3, "routing__keep": 0.5, "routing__start": 1, "sample__steps": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A short run that routes tokens and draws twice, as much as users see."""
    folder = tmp_path_factory.mktemp("inside") / "run"
    with samples_as_users_see_them():
        train(tiny_config(**ROUTED, train__steps=8, train__sample_every=0.5), folder, [])
    return folder


def events(run: Path, kind: str) -> list[dict]:
    return [e for e in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if e["event"] == kind]


def test_words_are_found_among_the_tokens():
    encoder = TextEncoder.create(
        ["a red circle above a blue square"] * 3, TextConfig(vocabulary=300, width=32, heads=2)
    )
    words = encoder.words(PROMPT)
    assert [w for w, _ in words] == ["A", "large", "red", "circle,", "above"]
    ids = encoder.tokens([PROMPT])[0][0].tolist()
    places = [p for _, found in words for p in found]
    assert places == list(range(len(ids) - 1))  # all but the end mark, in their order
    for word, found in words:
        assert encoder.tokenizer.decode([ids[p] for p in found]).strip() == word.lower()
    encoder.max_tokens = 4
    assert [p for _, found in encoder.words(PROMPT) for p in found] == [0, 1, 2]  # of what is read


def test_words_of_a_tokenizer_that_gives_no_places():
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    network = T5EncoderModel(T5Config(d_model=32, d_ff=48, d_kv=16, num_layers=1, num_heads=2, vocab_size=400))
    encoder = PretrainedTextEncoder(ByT5Tokenizer(), network, 40)
    assert encoder.words("a ring") == [(c, [i]) for i, c in enumerate("a ring")]


def test_words_of_a_pretrained_encoder(tmp_path):
    from transformers import T5Config, T5EncoderModel

    T5EncoderModel(T5Config(d_model=32, d_ff=48, d_kv=16, num_layers=1, num_heads=2, vocab_size=400)).save_pretrained(
        tmp_path
    )
    CaptionTokenizer.train(["a red circle"] * 3, TextConfig(vocabulary=300)).save(tmp_path)
    encoder = open_text_encoder(TextConfig(pretrained=str(tmp_path), max_tokens=40))
    words = encoder.words("a red circle")
    assert [w for w, _ in words] == ["a", "red", "circle"]
    assert len(encoder(["a red circle"]).mask[0]) == 1 + sum(len(p) for _, p in words)


def test_a_word_is_lit_where_it_is_looked_at(run):
    """The maps are the model's own attention at the noise levels, added up over a word's tokens."""
    config = tiny_config(**ROUTED)
    transformer, text_encoder = load_averaged(run, config, torch.device("cpu"))
    prompts = ["a red circle", "two small blue squares"]
    pictures = generate(transformer, text_encoder, prompts, config, 0)
    looks = look_at_words(transformer, text_encoder, pictures, prompts, config, 0)
    assert [look.word for look in looks[1]] == ["two", "small", "blue", "squares", OTHERS]
    for found in looks:
        assert sum(look.share for look in found) == pytest.approx(1, abs=1e-4)
        assert all(look.where.shape == (8, 8) and (look.where > 0).all() for look in found)
    noise, text = noise_of(32, 32, 0, 1)[None], text_encoder(prompts[1:])
    maps = []
    for level in LEVELS:
        t = torch.tensor([level])
        with torch.no_grad():
            maps.append(transformer(interpolate(pictures[1:], noise, t), t, text, look=True).attention[0])
    (_, places) = text_encoder.words(prompts[1])[3]
    expected = sum(m[:, places].sum(dim=1) for m in maps).view(8, 8) / len(LEVELS)
    assert torch.allclose(looks[1][3].where, expected, atol=1e-6)


def test_the_overlay_is_bright_where_the_word_is_looked_at(tmp_path):
    where = torch.zeros(4, 4)
    where[3, 0] = 1
    looks = [[Look("circle", 0.75, where)], [Look("a", 0.5, where), Look("ring", 0.5, where)]]
    pictures, prompts = torch.zeros(3, 3, 160, 160), ["a circle", "a ring", ""]
    draw_attention(pictures, prompts, [*looks, []], tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("L")).astype(int)
    tile = pixels[10:170, 180:340]  # beside the first picture
    assert tile[140:, :20].mean() > 180 > 80 > tile[:80, 80:].mean()
    assert (pixels[10:170, 350:510] == 255).all()  # the first prompt has one word less


def test_predictions_are_the_model_s_at_their_noise_levels(run, tmp_path):
    config = tiny_config(**ROUTED)
    transformer, text_encoder = load_averaged(run, config, torch.device("cpu"))
    batch = open_source(config).batch(0, 2)
    draw_predictions(predict(transformer, text_encoder, batch, config, 0), tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    tiles = [pixels[12:170:5, 12 + 170 * i : 170 + 170 * i : 5] for i in range(6)]  # the middle of each enlarged pixel
    assert (tiles[0] == to_uint8(batch.images[:1])[0]).all()
    noise, text = noise_of(32, 32, 0, 0)[None], text_encoder(batch.captions[:1])
    for tile, level in zip(tiles[1:], LEVELS, strict=True):
        t = torch.tensor([level])
        with torch.no_grad():
            x0 = transformer(interpolate(batch.images[:1], noise, t), t, text).x0
        assert np.abs(tile.astype(int) - to_uint8(x0)[0]).max() <= 1


def test_it_lies_beside_the_samples_in_the_log_the_boards_and_the_report(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    names = {"guidance", "attention", "predictions"}
    for event, step in zip(events(run, "samples"), (4, 8), strict=True):
        assert event["step"] == step and set(event["inside"]) == names
        for name, file in event["inside"].items():
            assert Path(file) == run / "samples" / f"{name}-step-{step:08d}.png"
            with Image.open(file) as picture:
                assert picture.width > 500
    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    for name in {"samples"} | names:
        assert [e.step for e in board.Images(name)] == [4, 8]
    frozen = frozen_in(write_report(run))
    inside = frozen["inside"]
    assert len(inside["words"]) == ATTENDED and len(inside["noise"]) == EXAMPLES
    assert len(inside["guidance"]["pairs"]) == COMPARED
    noisiest, other = inside["noise"][0]["pictures"][1]["file"], inside["guidance"]["pairs"][0]["other"]
    for file in (inside["words"][0]["file"], noisiest, other):
        assert frozen["files"][file].startswith("data:image/png;base64,")


def test_without_routing_there_is_nothing_to_compare(finished_run):
    (event,) = events(finished_run, "samples")
    assert set(event["inside"]) == {"attention", "predictions"}


def test_drawing_changes_no_bit_of_training_and_its_time_is_known(run, tmp_path):
    other = tmp_path / "run"
    state = train(tiny_config(**ROUTED, train__steps=8, train__sample_every=1.0), other, [])
    assert [e["loss"] for e in events(run, "step")] == [e["loss"] for e in events(other, "step")]
    ours = checkpoint.resume(run, tiny_config(**ROUTED, train__steps=8), torch.device("cpu"))
    for a, b in zip(ours.transformer.parameters(), state.transformer.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(ours.generator.get_state(), state.generator.get_state())
    d = state.durations
    prompts = len(Probe(tiny_config(), open_source(tiny_config())).prompts)
    assert d["samples"] > prompts * d["picture"] > 0


def test_spaced():
    assert spaced(24, 6) == [0, 4, 8, 12, 16, 20]
    assert spaced(3, 6) == [0, 1, 2]
