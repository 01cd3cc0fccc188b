"""A pile with every fault that we know of: each is named, and nothing else is lost."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from making import encoded, lines_of, picture, prepared
from PIL import Image, ImageCms

from daybreak.data.shards.reader import ShardReader


@pytest.fixture(scope="module")
def pile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pile")
    rows = []

    def add(name: str, data: bytes | None, text="a caption") -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            (folder / name).write_bytes(data)
        rows.append({"file_name": name, "text": text})

    for i in range(12):
        add(f"good-{i}.jpg", encoded(i))
    add("with spaces/größe äöü 雪.png", encoded(100, kind="PNG"))
    whole = encoded(101, (400, 400))
    add("truncated.jpg", whole[: len(whole) // 2])
    add("zero.jpg", b"")
    add("text.jpg", b"I am no picture")
    add("gone.jpg", None)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    add("bomb.png", bomb.getvalue())
    cmyk = io.BytesIO()
    picture(102).convert("CMYK").save(cmyk, "JPEG", quality=95)
    add("cmyk.jpg", cmyk.getvalue())
    moving = io.BytesIO()
    picture(103).save(moving, "GIF", save_all=True, append_images=[picture(104), picture(105)])
    add("moving.gif", moving.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    add("turned.jpg", encoded(106, (120, 96), exif=exif))
    exif[0x0112] = 42
    add("wrong-exif.jpg", encoded(107, exif=exif))
    add("broken-exif.jpg", encoded(108, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff"))
    add("broken-profile.jpg", encoded(109, icc_profile=b"no profile at all"))
    add("silent.jpg", encoded(110), text="")
    add("null.jpg", encoded(111), text=None)
    add("good-3-again.jpg", encoded(3))
    add("good-4.jpg", None, text="the same row again")
    near = Image.open(io.BytesIO(encoded(5))).resize((150, 150), Image.Resampling.LANCZOS)
    resaved = io.BytesIO()
    near.save(resaved, "JPEG", quality=70)
    add("good-5-resaved.jpg", resaved.getvalue())
    add("verbose.jpg", encoded(112), text=" ".join(["word"] * 5000))
    add("tiny.jpg", encoded(113, (20, 20)))
    add("panorama.jpg", encoded(114, (900, 100)))
    blank = io.BytesIO()
    Image.new("RGB", (96, 96), (250, 250, 250)).save(blank, "JPEG")
    add("blank.jpg", blank.getvalue())
    glass = picture(115).convert("RGBA")
    glass.putalpha(Image.fromarray(np.tile(np.arange(96, dtype=np.uint8), (96, 1))))
    transparent = io.BytesIO()
    glass.save(transparent, "PNG")
    add("transparent.png", transparent.getvalue())
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    return folder, [r["file_name"] for r in rows]


def test_every_fault_is_named_and_nothing_else_is_lost(pile, tmp_path):
    folder, names = pile
    out = tmp_path / "shards"
    prepared(folder, out)
    dropped = lines_of(out / "dropped.jsonl")
    reasons = {d["key"]: (d["kind"], d["reason"]) for d in dropped}
    expected = {
        "truncated.jpg": ("broken", "truncated"),
        "zero.jpg": ("broken", "the file is empty"),
        "text.jpg": ("broken", "cannot identify"),
        "gone.jpg": ("broken", "no such file"),
        "bomb.png": ("broken", "20000x20000 px is more than 100 megapixels"),
        "silent.jpg": ("no caption", "no caption"),
        "null.jpg": ("no caption", "no caption"),
        "good-3-again.jpg": ("duplicate", "the same file as good-3.jpg"),
        "good-4.jpg": ("duplicate", "the same file as good-4.jpg, with another caption"),
        "good-5-resaved.jpg": ("near duplicate", "the same picture as good-5.jpg"),
        "tiny.jpg": ("too small", "20x20 px"),
        "panorama.jpg": ("extreme ratio", "9.0 to 1"),
        "blank.jpg": ("blank", "one colour"),
    }
    assert reasons.keys() == expected.keys()
    for name, (kind, words) in expected.items():
        assert reasons[name][0] == kind
        assert words in reasons[name][1]
    assert len(dropped) == len(expected)
    keys = pq.read_table(out / "data")["key"].to_pylist()
    assert sorted(keys + [d["key"] for d in dropped]) == sorted(names)

    notes = {(n["key"], n["note"]) for n in lines_of(out / "notes.jsonl")}
    for key, words in (
        ("cmyk.jpg", "CMYK converted"),
        ("moving.gif", "the first of 3 frames"),
        ("turned.jpg", "EXIF orientation 6"),
        ("wrong-exif.jpg", "EXIF orientation 42 does not exist"),
        ("broken-profile.jpg", "colour profile is unusable"),
        ("verbose.jpg", "5000 words"),
    ):
        assert any(k == key and words in n for k, n in notes), key


def test_pixels_come_out_right(pile, tmp_path):
    folder, _ = pile
    out = tmp_path / "shards"
    prepared(folder, out, encoding="png")
    reader = ShardReader(str(out))
    keys = pq.read_table(out / "data")["key"].to_pylist()

    def stored(name: str) -> np.ndarray:
        i = keys.index(name)
        picture = reader.picture(i, (int(reader.width[i]), int(reader.height[i])))
        return np.asarray(picture).astype(int)

    def as_it_should_be(image: Image.Image, size=(64, 64)) -> np.ndarray:
        return np.asarray(image.resize(size, Image.Resampling.LANCZOS)).astype(int)

    assert np.abs(stored("with spaces/größe äöü 雪.png") - as_it_should_be(picture(100))).max() <= 1
    # Turned a quarter clockwise: what lay 120 wide stands 120 high.
    turned = stored("turned.jpg")
    assert turned.shape[0] > turned.shape[1]
    upright = picture(106, (120, 96)).transpose(Image.Transpose.ROTATE_270)
    assert np.abs(turned - as_it_should_be(upright, turned.shape[1::-1])).mean() < 4
    assert np.abs(stored("moving.gif") - as_it_should_be(picture(103))).mean() < 12  # a palette of 256 colours
    alpha = np.arange(96)[None, :, None] / 255
    on_white = np.asarray(picture(115)) * alpha + 255 * (1 - alpha)
    assert (
        np.abs(stored("transparent.png") - as_it_should_be(Image.fromarray(on_white.round().astype(np.uint8)))).max()
        < 4
    )


def test_a_colour_profile_is_converted(tmp_path):
    """A profile whose red and blue are exchanged shows whether it was applied."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    profile = bytes(profile).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    folder = tmp_path / "folder"
    folder.mkdir()
    flat = np.zeros((96, 96, 3), dtype=np.uint8)
    flat[:, :, 0], flat[:48, :, 1] = 200, 60
    Image.fromarray(flat).save(folder / "a.png", icc_profile=profile)
    (folder / "a.txt").write_text("red by its numbers, blue by its profile")
    out = tmp_path / "out"
    prepared(folder, out, encoding="png")
    pixels = np.asarray(ShardReader(str(out)).picture(0, (64, 64)))
    assert pixels[60, 30, 2] > 150 > 80 > pixels[60, 30, 0]
    assert "converted to sRGB" in lines_of(out / "notes.jsonl")[0]["note"]


def test_where_photos_were_taken_does_not_reach_the_shards(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010E] = "at home"
    picture(0, (64, 64)).save(folder / "a.jpg", exif=exif)
    (folder / "a.txt").write_text("a")
    picture(1, (64, 64)).save(folder / "b.jpg")
    (folder / "b.txt").write_text("b")
    prepared(folder, tmp_path / "out")
    reader = ShardReader(str(tmp_path / "out"))
    assert b"at home" in (folder / "a.jpg").read_bytes()
    assert b"at home" not in reader.picture_bytes(0)
    assert reader.picture_bytes(1) == (folder / "b.jpg").read_bytes()  # what is as it should be is left alone
