"""Smaller copies beside the pictures: training at their size sees what it saw without them, and decodes less."""

import dataclasses
import hashlib
import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from making import captioned_folder, picture, prepared
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.inspect.findings import examine
from daybreak.data.inspect.look import look_at
from daybreak.data.prepare.convert import Kept, process
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.row import RawRow
from daybreak.data.shards.buckets import bucket_sizes, covering
from daybreak.data.shards.format import COPY
from daybreak.data.shards.reader import ShardReader, decode_to_bucket
from daybreak.data.shards.source import ShardSource

N = 30
SIZES = [(96, 96), (128, 80), (80, 128), (150, 90)]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The same pictures at 64 px, without copies and with copies at 32 px."""
    root = tmp_path_factory.mktemp("copies")
    folder = captioned_folder(root / "folder", N, size=lambda i: SIZES[i % 4])
    prepared(folder, root / "plain", patch=2, shard_mb=0.03)
    prepared(folder, root / "copies", patch=2, shard_mb=0.03, copy_size=32)
    return root / "plain", root / "copies"


def source(place, **options) -> ShardSource:
    return ShardSource([str(place)], **({"resolution": 32, "patch": 2, "batch": 5, "seed": 0} | options))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_all_else_of_a_set_is_as_without_copies(sets):
    plain, copies = sets
    with_copies = pq.read_table(copies / "data")
    assert with_copies.drop_columns(COPY).equals(pq.read_table(plain / "data"))
    a, b = ShardReader(str(plain)), ShardReader(str(copies))
    assert np.array_equal(a.checks, b.checks)
    assert [a.picture_bytes(i) for i in range(N)] == [b.picture_bytes(i) for i in range(N)]
    stored = with_copies[COPY].to_pylist()
    assert [b.copy_bytes(i) for i in range(N)] == stored
    assert [Image.open(io.BytesIO(data)).size for data in stored] == [tuple(size) for size in b.copy_size.tolist()]
    assert a.copy_bytes(0) is None
    assert "copies" not in a.index.settings
    assert b.index.settings["copies"] == {"size": 32, "bytes": sum(map(len, stored))}
    assert len(b.index.shards) > 1


@pytest.mark.parametrize(("size", "smaller", "patch"), [(1024, 512, 32), (1024, 384, 32), (768, 512, 16), (64, 32, 2)])
def test_a_copy_covers_the_bucket_of_its_shape_and_hardly_more(size, smaller, patch):
    buckets = bucket_sizes(smaller, patch, 2.0)
    for width, height in bucket_sizes(size, patch, 2.0):
        w, h = covering((width, height), buckets)
        nearest = min(buckets, key=lambda b: abs(np.log(b[0] / b[1]) - np.log(width / height)))
        assert w >= nearest[0] and h >= nearest[1] and (w == nearest[0] or h == nearest[1])
        assert abs(w * height / width - h) < 1 + height / width
        if size == 2 * smaller:
            assert (w, h) == (width // 2, height // 2) == nearest


def test_training_at_the_copies_size_sees_the_same_rows_crops_and_captions(sets):
    plain, copies = (source(place, flip=True) for place in sets)
    pixels = {row["caption"]: decoded(row[COPY]) for row in pq.read_table(sets[1] / "data").to_pylist()}
    from_copies, apart = 0, []
    for start in range(0, N, 5):
        a, b = plain.batch(start, 5), copies.batch(start, 5)
        assert a.captions == b.captions
        assert a.shape == b.shape
        for one, other, caption in zip(a.pixels.numpy(), b.pixels.numpy(), b.captions, strict=True):
            apart.append(np.abs(one.astype(int) - other)[..., :3].mean())
            copy = pixels[caption]
            same = copy.shape[:2] == other.shape[:2]
            from_copies += same and any(np.array_equal(c, other[..., :3]) for c in (copy, copy[:, ::-1]))
    assert max(apart) < 8  # of other crops, or of other pictures, it would be 30 and more
    assert from_copies >= 0.8 * N  # but for some of a batch of several shapes
    assert "from smaller copies" in copies.describe()
    assert "smaller copies" not in plain.describe()
    larger = [source(place, resolution=64).batch(0, 5).pixels for place in sets]
    assert np.array_equal(*larger)


def stored(image: Image.Image, **settings) -> tuple[bytes, bytes]:
    """The encoded picture and its copy that a shard holds of an image."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    kept = process(RawRow("a.png", buffer.getvalue()), PrepareSettings(patch=8, uncaptioned=True, **settings))
    assert isinstance(kept, Kept)
    return kept.columns["image"]["bytes"], kept.columns[COPY]


@pytest.mark.parametrize("encoding", ["jpeg", "png", "webp"])
def test_a_copy_is_nearer_to_the_original_than_what_the_picture_gives(encoding):
    apart = {"picture": 0.0, "copy": 0.0}
    for seed in range(2):
        noise = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8))
        original = Image.blend(noise.resize((256, 256), Image.Resampling.BICUBIC), picture(seed, (256, 256)), 0.5)
        ideal = np.asarray(original.resize((128, 128), Image.Resampling.LANCZOS)).astype(int)
        for name, data in zip(apart, stored(original, size=256, copy_size=128, encoding=encoding), strict=True):
            apart[name] += np.abs(np.asarray(decode_to_bucket(data, (128, 128))) - ideal).mean()
    assert apart["copy"] <= apart["picture"]
    assert (apart["copy"] == 0) == (encoding == "png")


def test_transparency_is_laid_on_the_background_in_a_copy_too():
    image = picture(0).convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat(np.uint8([[255] * 48 + [0] * 48]), 96, axis=0)))
    _, copy = stored(image, size=64, copy_size=32, background=(0, 200, 0))
    assert np.abs(decoded(copy)[:, 20:].astype(int) - [0, 200, 0]).max() < 10


def damaged(place, target, rows, *, pictures=False):
    """A set with a byte turned over in the copies of some rows, or in their pictures as well."""
    shutil.copytree(place, target)
    reader = ShardReader(str(target))
    for i in rows:
        path = target / reader.index.shards[int(reader.shard[i])].file
        data = bytearray(path.read_bytes())
        for places in (reader._copies, *([reader._pictures] if pictures else [])):
            data[int(places.offset[i]) + 40] ^= 0xFF
        path.write_bytes(data)
    return target


def test_for_a_damaged_copy_the_picture_is_decoded_and_the_copy_listed(sets, tmp_path):
    rows = [3, 4, 5, 6]
    broken = source(damaged(sets[1], tmp_path / "broken", rows), bad_share=0.0)
    plain, whole = (source(place) for place in sets)
    captions = pq.read_table(sets[0] / "data")["caption"].to_pylist()
    for start in [*range(0, N, 5), 0]:
        batches = [s.batch(start, 5) for s in (plain, whole, broken)]
        assert batches[0].captions == batches[2].captions
        for i, caption in enumerate(batches[2].captions):
            expected = batches[0 if captions.index(caption) in rows else 1]
            assert np.array_equal(batches[2].pixels[i], expected.pixels[i])
    reader = broken.sets[0].reader
    assert sorted(s.path for s in broken.skipped) == sorted(reader.name(i) for i in rows)
    assert {s.reason for s in broken.skipped} == {
        "its smaller copy is damaged, and the picture itself decoded in its place: the copy's checksum is wrong"
    }
    report = examine(look_at(str(tmp_path / "broken"), PrepareSettings(), 0, lambda *_: None), 256, None)
    assert [f.what for f in report.findings if f.level == "error"] == ["4 shards or rows are damaged"]


def test_a_row_whose_picture_is_damaged_as_well_is_skipped(sets, tmp_path):
    broken = source(damaged(sets[1], tmp_path / "broken", [3], pictures=True))
    for start in range(0, N, 5):
        broken.batch(start, 5)
    assert [s.reason.rpartition(": ")[2] for s in broken.skipped] == [
        "the copy's checksum is wrong",
        "the picture's checksum is wrong",
    ]


def test_a_set_is_a_source_by_its_pictures_and_its_copies_are_made_anew(sets, tmp_path):
    prepared(sets[1], tmp_path / "again", patch=2, shard_mb=0.03, copy_size=32)
    before, after = ShardReader(str(sets[1])), ShardReader(str(tmp_path / "again"))
    assert np.array_equal(before.checks, after.checks)
    assert np.array_equal(before.shard, after.shard)
    assert np.array_equal(before.copy_size, after.copy_size)
    assert np.abs(decoded(before.copy_bytes(0)).astype(int) - decoded(after.copy_bytes(0))).mean() < 3


def test_settings_without_copies_are_those_of_sets_that_are_there():
    own = dataclasses.asdict(PrepareSettings())
    assert own.pop("copy_size") is None
    expected = hashlib.sha256(json.dumps([own, "x"], sort_keys=True).encode()).hexdigest()
    assert PrepareSettings().fingerprint("x") == expected
    assert len({PrepareSettings(copy_size=c).fingerprint("x") for c in (None, 256, 512)}) == 3


@pytest.mark.parametrize("copy_size", [33, 44, 64])
def test_a_size_that_saves_nothing_is_refused(copy_size):
    with pytest.raises(
        ConfigError, match=rf"--copy-size {copy_size}: with --size 64 it must be at most 40, .* of --patch 8"
    ):
        PrepareSettings(size=64, patch=8, copy_size=copy_size)
