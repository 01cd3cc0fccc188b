"""Pictures keep their ratio in fine-tuning: shapes, the order of steps, what SDXL is told, from folder and shards."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import prepared
from PIL import Image
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.finetune.order import CachedBatch, CachedPictures, Order
from daybreak.finetune.pictures import open_pictures
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.shapes import Shapes, side_step, sizes_of
from daybreak.finetune.step import squared_errors
from daybreak.train.step import backward

WHITE = (255, 255, 255)


@settings(deadline=None)
@given(width=st.integers(1, 5000), height=st.integers(1, 5000), upscale=st.booleans())
def test_a_shape_is_within_the_budget_and_the_picture(width, height, upscale):
    shapes = Shapes(512, 64, 3.0, upscale)
    shape = shapes.of(width, height)
    if shape is None:
        assert not upscale and min(width, height) < 64
        return
    w, h = shape
    assert w % 64 == 0 and h % 64 == 0 and w * h <= 512 * 512 and 1 / 3 <= w / h <= 3
    assert upscale or (w <= width and h <= height)
    if min(width, height) >= 512:
        assert shape in shapes.buckets and w * h >= 0.85 * 512 * 512


def test_steps_and_squares():
    asked = [(8, 64, 512), (8, 64, 192), (16, 32, 1024), (2, 64, 16), (32, 32, 512)]
    assert [side_step(*multiple_wanted_side) for multiple_wanted_side in asked] == [64, 32, 32, 4, 32]
    assert Shapes.squares(512).of(100, 900) == (512, 512)
    assert Shapes(512, 64, 3.0).of(3000, 1000) == (768, 320)
    assert Shapes(512, 64, 3.0, longest=640).of(3000, 1000) == (640, 384)
    assert Shapes(512, 64, 3.0, longest=640).of(750, 250) == (576, 192)
    assert {Shapes(1024, 64, 3.0).of(w, h) for w, h in ((3000, 2000), (2000, 3000))} == {(1216, 832), (832, 1216)}


def test_what_a_crop_was_cut_out_of():
    assert sizes_of((1000, 500), (512, 512)) == (500, 1000, 0, 256, 512, 512)
    assert sizes_of((400, 400), (384, 384)) == (400, 400, 0, 0, 384, 384)
    # Stored at 768 x 512 out of 3000 x 1900 px, and then cropped again.
    direct, stored = sizes_of((3000, 1900), (512, 512)), sizes_of((768, 512), (512, 512), (3000, 1900))
    assert direct[:2] == stored[:2] == (1900, 3000) and abs(direct[3] - stored[3]) <= 1 and direct[2] == stored[2] == 0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=5), st.integers(1, 8), st.booleans())
def test_each_picture_once_an_epoch_and_steps_of_one_shape(counts, batch, with_prior):
    shapes = [shape for shape, count in enumerate(counts) for _ in range(count)]
    own, prior = list(range(len(shapes))), [len(shapes)] * with_prior
    order = Order(own, prior, batch + with_prior, 3, [*shapes, 0].__getitem__)
    count = order.own
    steps = [[n for n in order.rows(step) if n < len(own)] for step in range(len(own))]
    assert all(len(step) == count for step in steps)
    assert set(Counter(n for step in steps for n in step).values()) == {count}
    uniform = sum(len({shapes[n] for n in step}) == 1 for step in steps[: len(own) // count])
    assert uniform >= sum(c // count for c in counts)
    assert all([shapes[n] for n in step] == sorted(shapes[n] for n in step) for step in steps)


def test_all_processes_take_as_many_parts():
    cache = SimpleNamespace(
        at=[(n // 3, n % 3) for n in range(12)], rows=[torch.zeros(3, 2, 4 + s, 8 - s) for s in range(4)], prior=[],
        drawn=lambda *_: "", captions=[""] * 12,
    )  # fmt: skip
    order = SimpleNamespace(rows=lambda _: list(range(12)), own=12)
    source = CachedPictures(cache, order, FinetuneSettings(batch=12), 8)
    batches = [source.batch(start, 4) for start in (0, 4, 8)]
    assert {tuple((p.start, p.stop) for p in b.parts(2)) for b in batches} == {((0, 1), (1, 2), (2, 3), (3, 4))}
    for batch in batches:
        for part in batch.parts(4):
            assert len({cache.at[n][0] for n in batch.numbers[part]}) == 1
    assert {b.canvas for b in batches} == {(7, 8)}


@pytest.fixture(scope="module")
def run(base, mixed, tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes") / "run"
    return tiny.finetune(base, mixed, out, lr=3e-3, flip=True, prompts=(), resolution=32, precision="float32")


def test_a_step_of_several_shapes_is_the_mean_of_its_pictures(run):
    source = CachedPictures(run.cache, run.order, run.settings, 32)
    steps = [source.batch(8 * i, 8) for i in range(16)]
    batch = next(b for b in steps if b.cuts)
    random = run.random(batch, run.config)
    loss, _ = backward(run, batch, random, run.config, 0.0, 8)
    ours = [p.grad.clone() for p in run.parameters()]
    for p in run.parameters():
        p.grad = None
    family, total = run.base.family, 0.0
    for i, number in enumerate(batch.numbers):
        rows = run.cache.row(number)
        if random.flip[i]:
            shape, place = run.cache.at[number]
            rows = run.cache.flipped[shape][place]
        text = run.text_of([batch.captions[i]])
        error = squared_errors(family, family.network, run.base.process, rows[None], text, random.rows([i]))
        (error / 8).sum().backward()
        total += error.item() / 8
    assert loss.item() == pytest.approx(total, rel=1e-4)
    for a, p in zip(ours, run.parameters(), strict=True):
        assert torch.allclose(a, p.grad, atol=1e-4 * float(a.abs().max() + 1))
        p.grad = None


def test_training_held_out_pictures_and_samples_keep_their_ratio(run):
    assert sorted(run.cache.shapes) == [(24, 32), (24, 40), (32, 32), (40, 24)]
    held = {Image.open(p).size for p in (run.folder / "held_out").glob("*.png")}
    assert held <= set(run.cache.shapes) and len(held) > 1
    assert len(set(run.sample_shapes)) > 1
    caption = run.prompts[0]
    width, height = run.sample_shapes[0]
    assert width != height or len(set(run.sample_shapes)) > 1
    assert run.cache.shape_of(caption) == (width, height)


def test_xl_is_told_of_each_picture_what_it_was_cut_out_of(mixed, tmp_path):
    base = tiny.save_sdxl(tmp_path / "base")
    told = []
    run = tiny.finetune(base, mixed, tmp_path / "run", method="lora", rank=2, resolution=32, steps=1)
    run.base.family.network.register_forward_pre_hook(
        lambda _, __, given: told.append(given["added_cond_kwargs"]["time_ids"].tolist()), with_kwargs=True
    )
    batch = CachedPictures(run.cache, run.order, run.settings, 32).batch(0, 8)
    backward(run, batch, run.random(batch, run.config), run.config, 0.0, 8)
    names = [json.loads(line)["key"] for name in ("training", "held_out")
             for line in (run.folder / f"{name}.jsonl").read_text().splitlines()]  # fmt: skip
    numbers = [*run.cache.training, *run.cache.held_out]
    size = {n: Image.open(name).size for n, name in zip(numbers, names, strict=True)}
    expected = []
    for n in batch.numbers:
        (w, h), (bw, bh) = size[n], run.cache.shapes[run.cache.at[n][0]]
        scale = max(bw / w, bh / h)
        crop = [round((h * scale - bh) / 2), round((w * scale - bw) / 2)]
        expected.append([h, w, *crop, bh, bw])
    assert [row for part in told for row in part] == expected


def test_shards_that_carry_shapes(base, mixed, tmp_path):
    prepared(mixed, tmp_path / "shards", size=32, patch=8, max_ratio=2.0, min_side=8, duplicates="keep")
    shapes = Shapes(32, 8, 3.0)
    found = open_pictures(str(tmp_path / "shards"), shapes, WHITE)
    assert set(found.shapes) == {(24, 40), (32, 32), (40, 24)}
    assert {sizes[:2] for sizes in found.sizes} >= {(40, 40), (64, 40), (60, 100)}  # of the originals
    run = tiny.finetune(base, tmp_path / "shards", tmp_path / "run", resolution=32, steps=2)
    assert len(run.cache.shapes) == 3


def test_square_and_upscale_are_asked_for(mixed):
    assert set(open_pictures(str(mixed), Shapes.squares(32), WHITE).shapes) == {(32, 32)}
    assert (24, 32) not in open_pictures(str(mixed), Shapes(32, 8, 3.0, upscale=True), WHITE).shapes
    with pytest.raises(ConfigError, match="--upscale has no effect with --square"):
        FinetuneSettings(square=True, upscale=True)


def test_the_command_says_how_full_each_shape_is_and_loses_nothing(base, tmp_path):
    sizes = [(40, 40)] * 9 + [(40, 64)] * 3 + [(80, 44), (5, 40)]
    data = tiny.write_pictures(tmp_path / "data", sizes=sizes)
    words = ["finetune", base, "--data", data, "--out", tmp_path / "run", "--resolution", 32, "--batch", 4,
             "--steps", 4, "--sample-steps", 1, "--sampler", "ddim", "--no-report",
             "--general-prompts", tmp_path / "general.txt", "--held-out", 0]  # fmt: skip
    (tmp_path / "general.txt").write_text("a dog\n")
    result = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "200"})
    assert result.exit_code == 0, (result.exception, result.output)
    rows = [line.split() for line in result.output.splitlines()]
    assert ["32x32", "9", "2", "1"] in rows and ["24x40", "3", "0", "3"] in rows and ["40x24", "1", "0", "1"] in rows
    assert "5 pictures make up batches of several shapes" in " ".join(result.output.split())
    (left,) = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert "5x40 px: a side is under 8 px; --upscale takes it" in left
    index = json.loads((tmp_path / "run" / "cache" / "index.json").read_text())
    assert sorted(n for numbers in index["members"] for n in numbers) == list(range(13))


def test_parts_of_a_batch_of_one_shape_are_as_before():
    batch = CachedBatch([0, 1, 2, 3, 4], [""] * 5, torch.ones(5), (), (8, 8))
    assert batch.parts(5) == [slice(0, 5)] and batch.parts(2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
