"""Real files of every awkward kind: used as they should be, or listed with the reason."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from daybreak.config import ConfigError
from daybreak.data.folder import FolderSource
from daybreak.data.listing import list_items
from daybreak.data.pictures import open_square
from daybreak.data.stream import stream

WHITE = (255, 255, 255)
EMOJI = Path(__file__).parents[3] / "shared" / "data" / "emoji"


def colour(path: Path, rgb=(200, 30, 30), size=(40, 30), **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, rgb).save(path, **save)
    return path


def image_folder(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    return folder


def source(folder: Path, **kwargs) -> FolderSource:
    return FolderSource(folder, **{"resolution": 16, "seed": 0, "background": WHITE} | kwargs)


def test_imagefolder_jsonl_csv_and_text_files_read_alike(tmp_path):
    names = ["a.png", "sub dir/bü.png", "c.jpg"]
    captions = ["a red thing", 'größer, "quoted"', "third"]
    for kind in ("jsonl", "csv", "txt"):
        for name in names:
            colour(tmp_path / kind / name)
    rows = [{"file_name": n, "text": t} for n, t in zip(names, captions, strict=True)]
    image_folder(tmp_path / "jsonl", rows)
    lines = ["file_name,text"] + [
        '"{}","{}"'.format(n, t.replace('"', '""')) for n, t in zip(names, captions, strict=True)
    ]
    (tmp_path / "csv" / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    for name, text in zip(names, captions, strict=True):
        (tmp_path / "txt" / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    read = {k: sorted((i.path.name, i.caption) for i in list_items(tmp_path / k)) for k in ("jsonl", "csv", "txt")}
    assert read["jsonl"] == read["csv"] == read["txt"]
    assert ("bü.png", 'größer, "quoted"') in read["txt"]
    assert len(source(tmp_path / "jsonl")) == 3


def test_unusable_items_are_listed_with_their_reason_and_nothing_else_is_lost(tmp_path):
    colour(tmp_path / "good.png")
    whole = colour(tmp_path / "whole.jpg", size=(300, 300)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("I am no picture")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    colour(tmp_path / "silent.png")
    names = [
        "good.png",
        "whole.jpg",
        "cut.jpg",
        "zero.png",
        "text.jpg",
        "bomb.png",
        "gone.png",
        "silent.png",
        "good.png",
    ]
    rows = [{"file_name": n, "text": " " if n == "silent.png" else "a caption"} for n in names]
    s = source(image_folder(tmp_path, rows))
    assert len(s) == 3
    reasons = {Path(x.path).name: x.reason for x in s.skipped}
    assert reasons.keys() == {"cut.jpg", "zero.png", "text.jpg", "bomb.png", "gone.png", "silent.png"}
    assert reasons["zero.png"] == "the file is empty"
    assert reasons["gone.png"] == "no such file"
    assert reasons["silent.png"] == "no caption"
    assert "megapixels" in reasons["bomb.png"]
    assert "truncated" in reasons["cut.jpg"]
    assert "cannot identify" in reasons["text.jpg"]


def test_modes_become_rgb(tmp_path):
    grey = colour(tmp_path / "grey.png")
    Image.new("L", (20, 20), 77).save(grey)
    assert (open_square(grey, 8, WHITE) == 77).all()
    Image.new("I;16", (20, 20), 77 * 257).save(tmp_path / "sixteen.png")
    assert (open_square(tmp_path / "sixteen.png", 8, WHITE) == 77).all()
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=95)
    assert abs(open_square(tmp_path / "cmyk.jpg", 8, WHITE)[4, 4].astype(int) - [255, 0, 0]).max() < 30
    palette = Image.new("RGB", (20, 20), (10, 200, 30)).quantize()
    palette.save(tmp_path / "palette.png")
    assert (open_square(tmp_path / "palette.png", 8, WHITE)[0, 0] == (10, 200, 30)).all()
    Image.new("RGB", (20, 20), "red").save(
        tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (20, 20), "blue")]
    )
    assert (open_square(tmp_path / "moving.gif", 8, WHITE)[0, 0] == (255, 0, 0)).all()


@pytest.mark.parametrize("background", [WHITE, (0, 10, 20)])
def test_transparency_is_laid_on_the_background(tmp_path, background):
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 10, 20))
    image.save(tmp_path / "a.png")
    pixels = open_square(tmp_path / "a.png", 20, background)
    assert tuple(pixels[5, 15]) == background
    assert tuple(pixels[5, 5]) == (0, 0, 255)


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (30, 30), "white")
    image.paste((255, 0, 0), (0, 0, 30, 15))  # red above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: red comes to the right
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = open_square(tmp_path / "turned.png", 30, WHITE)
    assert tuple(pixels[15, 25]) == (255, 0, 0)
    assert tuple(pixels[15, 5]) == (255, 255, 255)


def test_the_middle_square_is_cut_out_after_antialiased_scaling(tmp_path):
    image = Image.new("RGB", (90, 30), "white")
    image.paste((0, 0, 255), (30, 0, 60, 30))
    image.save(tmp_path / "wide.png")
    assert (open_square(tmp_path / "wide.png", 10, WHITE)[:, 3:-3] == (0, 0, 255)).all()
    fine = Image.fromarray((np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8))
    fine.save(tmp_path / "chequered.png")
    small = open_square(tmp_path / "chequered.png", 16, WHITE)
    assert abs(small.astype(int) - 127).max() < 10  # averaged, not picked
    assert small.shape == (16, 16, 3)


def test_jpeg_decoded_at_a_fraction_looks_like_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize(
        (800, 800), Image.Resampling.BICUBIC
    )
    smooth.save(tmp_path / "big.jpg", quality=95)
    expected = np.asarray(ImageOps.fit(smooth, (32, 32), Image.Resampling.LANCZOS)).astype(int)
    assert abs(open_square(tmp_path / "big.jpg", 32, WHITE) - expected).mean() < 3


def test_each_epoch_shows_every_picture_once_in_another_order(tmp_path):
    for i in range(10):
        colour(tmp_path / f"{i}.png", (i * 20, 0, 0))
        (tmp_path / f"{i}.txt").write_text(f"number {i}")
    s = source(tmp_path)
    captions = s.batch(0, 30).captions
    epochs = [captions[:10], captions[10:20], captions[20:]]
    assert all(sorted(e) == sorted(epochs[0]) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 3
    batch = s.batch(7, 20)
    assert batch.captions == captions[7:27]
    for picture, caption in zip(batch.images, batch.captions, strict=True):
        assert picture[0].mean() == pytest.approx(int(caption.split()[1]) * 20 / 127.5 - 1, abs=1e-3)


def test_workers_do_not_change_the_order(tmp_path):
    for i in range(7):
        colour(tmp_path / f"{i}.png", (i * 20, 0, 0))
        (tmp_path / f"{i}.txt").write_text(f"number {i}")
    s = source(tmp_path, flip=True)
    orders = []
    for workers in (0, 1, 3):
        batches = stream(s, 4, 5, workers)
        orders.append([next(batches) for _ in range(9)])
        batches.close()
    for other in orders[1:]:
        for a, b in zip(orders[0], other, strict=True):
            assert a.captions == b.captions
            assert np.array_equal(a.images.numpy(), b.images.numpy())


def test_flips_mirror_about_half(tmp_path):
    image = Image.new("RGB", (16, 16), "black")
    image.paste((255, 255, 255), (0, 0, 8, 16))
    image.save(tmp_path / "half.png")
    (tmp_path / "half.txt").write_text("left")
    left_is_white = (source(tmp_path, flip=True).batch(0, 400).images[:, 0, 8, 2] > 0).float().mean()
    assert 0.4 < left_is_white < 0.6
    assert (source(tmp_path).batch(0, 50).images[:, 0, 8, 2] > 0).all()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there is nothing in it"),
        ({"notes.docx": "x"}, "no pictures, .tar, .parquet, .arrow, .csv or .jsonl in it"),
        ({"metadata.jsonl": '{"file_name": '}, "metadata.jsonl, line 1 is not JSON"),
        ({"metadata.jsonl": '{"words": "x"}'}, "which column holds the picture or its path.*--image-column: words"),
        ({"metadata.csv": "name,caption\na.png,b"}, "which column holds the picture or its path.*: name, caption"),
        (
            {"metadata.jsonl": '{"file_name": "gone.png", "text": "x"}'},
            "none of the 1 pictures that it names is there, such as gone.png",
        ),
        ({"a.png": "no picture, no caption"}, "1 pictures and no caption; looked for metadata.jsonl.*and a .txt"),
        ({"a.png": "no picture", "a.txt": "a"}, "none of its 1 items is usable: 1 cannot identify the file"),
    ],
)
def test_a_folder_with_nothing_usable_says_what_was_looked_for(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        source(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        source(tmp_path / "nowhere")


@pytest.mark.skipif(not EMOJI.is_dir(), reason="the emoji pictures are not beside this checkout")
def test_real_pictures_are_all_usable():
    items = list_items(EMOJI)
    assert len(items) == 3343
    assert all(open_square(i.path, 32, WHITE).shape == (32, 32, 3) for i in items[::50])
