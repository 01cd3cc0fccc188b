"""What is learnt of a picture: masks that weigh the loss, several captions, tags in another order, a trigger word."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from making import prepared
from PIL import Image
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.data.reading.settings import Reading
from daybreak.data.trigger import triggered
from daybreak.finetune import settings as settings_file
from daybreak.finetune.cache import Cache
from daybreak.finetune.masks import Masks
from daybreak.finetune.order import CachedPictures
from daybreak.finetune.pictures import open_pictures
from daybreak.finetune.process import Flow
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.shapes import Shapes
from daybreak.finetune.step import StepRandomness
from daybreak.finetune.tags import shuffled

WHITE = (255, 255, 255)
SHAPES = Shapes(32, 8, 3.0)


@pytest.fixture
def pictures(tmp_path):
    return tiny.write_pictures(tmp_path / "data", sizes=[(32, 32)] * 3 + [(24, 40)] * 3)


def half(size: tuple[int, int]) -> Image.Image:
    """White on the left half."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[:, : size[0] // 2] = 255
    return Image.fromarray(mask)


def masked(pictures, where, name="{}-masklabel.png"):
    where.mkdir(exist_ok=True)
    for path in sorted(pictures.glob("???.png"))[:5]:
        half(Image.open(path).size).save(where / name.format(path.stem))


@pytest.mark.parametrize("told", ["alpha", "beside", "folder", "plain names"])
def test_masks_are_found_and_cut_as_their_pictures(pictures, tmp_path, told):
    place = {"alpha": "alpha", "beside": "beside"}.get(told, str(tmp_path / "masks"))
    if told == "alpha":
        for path in sorted(pictures.glob("*.png"))[:5]:
            image = Image.open(path)
            image.putalpha(half(image.size))
            image.save(path)
    else:
        name = "{}.png" if told == "plain names" else "{}-mask.png" if told == "folder" else "{}-masklabel.png"
        masked(pictures, pictures if told == "beside" else tmp_path / "masks", name)
    found = open_pictures(str(pictures), SHAPES, WHITE, masks=Masks(place))
    assert len(found) == 6 and found.masked == 5 and not found.skipped
    for i in range(6):
        width, height = found.shapes[i]
        expected = np.asarray(half((width, height))) if i < 5 else np.full((height, width), 255)
        assert (found.masks[i] == expected).all()


def test_a_mask_is_no_picture(pictures):
    masked(pictures, pictures)
    found = open_pictures(str(pictures), SHAPES, WHITE, "a photo of sks dog")
    assert len(found) == 6 and len(found.skipped) == 5
    assert {s.reason for s in found.skipped} == {
        "a mask of the picture beside it: --masks beside has it weigh the loss"
    }


def test_faulty_masks_cost_a_picture_or_are_told_at_once(pictures, tmp_path):
    masked(pictures, pictures, "{}-mask.png")
    half((10, 32)).save(pictures / "000-mask.png")
    (pictures / "001-mask.png").write_bytes(b"no picture")
    found = open_pictures(str(pictures), SHAPES, WHITE, masks=Masks("beside"))
    reasons = sorted(s.reason for s in found.skipped)
    assert len(found) == 4 and reasons[1].startswith("its mask 001-mask.png: cannot identify")
    assert reasons[0] == "its mask 000-mask.png is 10x32 px, and the picture 32x32: they need one shape"
    strangers = tiny.write_pictures(tmp_path / "strangers", 3)
    for path in strangers.glob("*.png"):
        path.rename(path.with_name(f"other-{path.name}"))
    with pytest.raises(ConfigError, match="--masks .*strangers: none of its 3 pictures is called as a"):
        open_pictures(str(pictures), SHAPES, WHITE, masks=Masks(str(strangers)))
    with pytest.raises(ConfigError, match="--masks nowhere is neither alpha nor beside, nor a folder"):
        Masks("nowhere")
    with pytest.raises(ConfigError, match="--masks alpha: no picture is transparent"):
        open_pictures(str(pictures), SHAPES, WHITE, masks=Masks("alpha"))
    with pytest.raises(ConfigError, match="--unmasked has no effect without --masks"):
        FinetuneSettings(unmasked=0.5)


def test_masks_weigh_the_loss_of_training_and_of_the_probe(base, pictures, tmp_path):
    masked(pictures, pictures)
    changes = {"masks": "beside", "unmasked": 0.25, "flip": True, "resolution": 32, "steps": 2, "batch": 6,
               "precision": "float32"}  # fmt: skip
    run = tiny.finetune(base, pictures, tmp_path / "run", held_out=0.0, **changes)
    assert settings_file.load(run.folder).masks == "beside"
    number = next(n for n in run.cache.training if run.cache.shapes[run.cache.at[n][0]] == (32, 32))
    straight, mirrored = (run.cache.places([number], torch.tensor([f]), run.device)[0, 0] for f in (False, True))
    assert (straight[:, :8] == 1).all() and (straight[:, 8:] == 0.25).all() and torch.equal(mirrored, straight.flip(-1))
    batch = CachedPictures(run.cache, run.order, run.settings, 32).batch(0, 6)
    random = run.random(batch, run.config)
    ours, total = torch.zeros(()), 0.0
    for part in run.parts(batch, 6):
        ours = ours + run.loss(batch.rows(part), random.rows(part), run.config, 0.0, 1.0)[0]
    family, process = run.base.family, run.base.process
    for i, n in enumerate(batch.numbers):
        rows, drawn = run.cache.pictures([n], random.flip[[i]], run.device), random.rows([i])
        h, w = rows.shape[-2:]
        x0 = family.x0(rows, drawn.posterior[..., :h, :w])
        noise, text = drawn.noise[..., :h, :w], run.text_of([batch.captions[i]])
        output = family.predict(family.network, process.interpolate(x0, noise, drawn.t), drawn.t, text)
        places = torch.full((h, w), 1.0)
        if n < 5:
            places[:, w // 2 :] = 0.25
        places = places.flip(-1) if random.flip[i] else places
        total += ((output - noise).square() * places).mean().item() / 6
    assert ours.item() == pytest.approx(total, rel=1e-4)
    dropped = replace(random, drop=torch.ones(6, dtype=torch.bool))
    silent = replace(batch, captions=[""] * 6)
    losses = [
        sum(run.loss(b.rows(part), r.rows(part), run.config, 0.0, 1.0)[0].item() for part in run.parts(b, 6))
        for b, r in ((batch, dropped), (silent, random))
    ]
    assert losses[0] == losses[1] != pytest.approx(ours.item(), abs=1e-6)


def test_captions_are_dropped_at_the_rate_and_read_as_none():
    """What is dropped is read as no caption: the end of the test above."""
    random = StepRandomness.draw((4000, 1, 1, 1), Flow(1.0), 0.3, 0.0, False, torch.Generator().manual_seed(0))
    assert 0.27 < random.drop.float().mean() < 0.33


def test_tags_are_shuffled_anew_and_the_first_stay():
    caption, rng = "mine, a, b, c, d, e", np.random.default_rng
    assert {shuffled(caption, 6, ",", None, rng(i)) for i in range(9)} == {caption}
    orders = {shuffled(caption, 1, ",", None, rng(i)) for i in range(40)}
    assert len(orders) > 20 and all(o.startswith("mine, ") for o in orders)
    assert all(sorted(o.split(", ")) == sorted(caption.split(", ")) for o in orders)
    assert all(shuffled(caption, 1, ",", "mine", rng(i)).startswith("mine, a, ") for i in range(9))
    assert shuffled("one|two", 0, "|", None, rng(1)) in ("one| two", "two| one")
    assert triggered("a dog", "sks") == "sks, a dog" and triggered("[trigger] runs", "sks") == "sks runs"
    assert triggered("a sks dog", "sks") == "a sks dog"


def test_a_caption_is_drawn_anew_by_its_weight_and_by_the_step_alone():
    settings = FinetuneSettings(seed=5)
    cache = SimpleNamespace(choices={0: [("long", 3.0), ("short", 1.0)]}, captions=["long"])
    drawn = [Cache.drawn(cache, 0, settings, step) for step in range(2000)]
    assert 0.7 < drawn.count("long") / 2000 < 0.8
    assert drawn == [Cache.drawn(cache, 0, settings, step) for step in range(2000)]


def with_columns(pictures, **columns):
    rows = [{"file_name": p.name, **columns} for p in sorted(pictures.glob("???.png"))]
    for path in pictures.glob("*.txt"):
        path.unlink()
    (pictures / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_columns_of_captions_with_weights(pictures, tmp_path):
    with_columns(pictures, long=["a red circle on white", "a circle"], tags="red, circle", note="x")
    reading = Reading(captions={"long": 3.0, "tags": 1.0})
    expected = (("a red circle on white", 1.5), ("a circle", 1.5), ("red, circle", 1.0))
    assert set(open_pictures(str(pictures), SHAPES, WHITE, reading=reading).choices) == {expected}
    prepared(pictures, tmp_path / "shards", captions={"long": 1.0, "tags": 1.0}, size=32, patch=8, min_side=8)
    assert set(open_pictures(str(tmp_path / "shards"), SHAPES, WHITE, reading=reading).choices) == {expected}


def test_a_column_that_is_not_there_is_named(base, pictures, tmp_path):
    with_columns(pictures, long="a red circle", tags="red")
    prepared(pictures, tmp_path / "shards", captions={"long": 1.0}, size=32, patch=8, min_side=8)
    for data, words, said in (
        (pictures, ["--caption", "shrot"], "has no column shrot; it has long, tags"),
        (
            pictures,
            ["--caption", "long=2", "--caption", "shrot"],
            "--caption shrot: no picture has such a caption; there",
        ),
        (tmp_path / "shards", ["--caption", "shrot"], "has no such captions; there are long"),
    ):
        call = ["finetune", str(base), "--data", str(data), "--out", str(tmp_path / "run"), *words]
        result = CliRunner().invoke(app, call)
        assert isinstance(result.exception, ConfigError) and said in str(result.exception), result.exception
    assert not (tmp_path / "run").exists()


def test_trigger_and_shuffled_tags_on_the_command_line_and_resumed(base, pictures, tmp_path):
    for path in pictures.glob("*.txt"):
        path.write_text("a photo, red, circle, white")
    out, words = tmp_path / "run", ["--trigger", "sks", "--shuffle-tags", "--keep-tags", "1", "--captions", "lines"]
    more = ["--steps", "4", "--batch", "3", "--save-every", "2", "--no-report", "--sample-steps", "1", "--sampler",
            "ddim", "--resolution", "32"]  # fmt: skip
    result = CliRunner().invoke(app, ["finetune", str(base), "--data", str(pictures), "--out", str(out), *words, *more])
    assert result.exit_code == 0, (result.exception, result.output)
    stored = settings_file.load(out)
    assert (stored.trigger, stored.keep_tags, stored.shuffle_tags) == ("sks", 1, True)
    index = json.loads((out / "cache" / "index.json").read_text())
    assert set(index["captions"]) == {"sks, a photo, red, circle, white"}
    cache = SimpleNamespace(choices={}, captions=index["captions"])
    said = {Cache.drawn(cache, 0, stored, step) for step in range(30)}
    assert len(said) == 6 and all(s.startswith("sks, a photo, ") for s in said)
    copy = shutil.copytree(out, tmp_path / "copy")
    shutil.rmtree(sorted((copy / "checkpoints").iterdir())[-1])
    result = CliRunner().invoke(app, ["finetune", "--resume", str(copy)])
    assert result.exit_code == 0, (result.exception, result.output)
    tiny.check_same(copy, out)
