"""Shards as training data: what comes out is what went in, in one order, and damage is told and survived."""

import io
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import captioned_folder, picture, prepared
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.batch import Batch
from daybreak.data.shards.pixels import write_pixels
from daybreak.data.shards.reader import ShardReader, decode_to_bucket
from daybreak.data.shards.source import ShardSource
from daybreak.data.stream import stream

SIZES = [(96, 96), (128, 80), (80, 128), (150, 90)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    folder = captioned_folder(root / "folder", 90, size=lambda i: SIZES[i % 7 % 4])
    result = prepared(folder, root / "out", shard_mb=0.03)
    assert result.index.rows == 90
    assert len(result.index.shards) >= 4
    return root / "out"


def source(*places, **options) -> ShardSource:
    options = {"resolution": 32, "patch": 8, "batch": 8, "seed": 0} | options
    return ShardSource([str(p) for p in places], **options)


def test_pictures_and_captions_are_those_of_the_shards(shards):
    table = pq.read_table(shards / "data").to_pylist()
    batch = source(shards).batch(0, 8)
    by_caption = {row["caption"]: row for row in table}
    assert batch.shape == batch.images.shape == (8, 3, *batch.pixels.shape[1:3])
    for held, image, caption in zip(batch.pixels, batch.images, batch.captions, strict=True):
        height, width = held.shape[:2]
        pixels = np.asarray(decode_to_bucket(by_caption[caption]["image"]["bytes"], (width, height)))
        assert np.array_equal(held[..., :3], pixels)
        assert np.allclose(image.permute(1, 2, 0), pixels / 127.5 - 1, atol=1e-6)


def test_bytes_become_the_floats_that_numpy_makes_of_them():
    values = np.arange(256, dtype=np.uint8)
    expected = values.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
    assert (expected[0], expected[255]) == (-1, 1)
    picture = torch.from_numpy(np.stack([values, values[::-1], values // 2, values], axis=-1).reshape(1, 16, 16, 4))
    floats = Batch(picture, [""]).images
    assert floats.is_contiguous()
    for plane, at in zip(floats[0].numpy(), (values, values[::-1], values // 2), strict=True):
        assert np.array_equal(plane.reshape(-1), expected[at])
    floats = torch.rand(1, 3, 4, 4) * 2 - 1
    assert Batch(floats, [""]).images is floats


@pytest.mark.parametrize("size", [(512, 384), (4608, 1024)])  # Pillow holds the second in more than one piece
def test_a_picture_comes_into_the_batch_as_pillow_holds_it(size):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = np.zeros((size[1], size[0], 4), dtype=np.uint8)
    write_pixels(Image.fromarray(pixels), out)
    assert np.array_equal(out[..., :3], pixels)
    assert (out[..., 3] == 255).all()


def test_decoding_agrees_with_plain_pillow(shards):
    reader = ShardReader(str(shards))
    whole = Image.open(__import__("io").BytesIO(reader.picture_bytes(0))).convert("RGB")
    for side in (64, 32, 16):
        expected = np.asarray(whole.resize((side, side), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(np.asarray(reader.picture(0, (side, side))) - expected).mean() < 3


def test_the_memory_of_a_batch_is_used_again_but_not_while_it_is_held(shards):
    s = source(shards)
    first = s.batch(0, 8)
    before, view = first.pixels.clone(), first.pixels[2:4]
    for start in range(8, 200, 8):
        s.batch(start, 8)
    assert np.array_equal(first.pixels, before)
    del first
    for start in range(8, 200, 8):
        s.batch(start, 8)
    assert np.array_equal(view, before[2:4])
    assert len(s._memory._free) <= 3


def test_an_epoch_shows_every_row_once(shards):
    s = source(shards)
    captions = [c for start in range(0, 270, 8) for c in s.batch(start, 8).captions][:270]
    for epoch in (captions[:90], captions[90:180], captions[180:]):
        assert len(set(epoch)) == 90


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workers=st.integers(0, 4), ranks=st.sampled_from([1, 2, 4, 8]), start=st.integers(0, 40))
def test_workers_ranks_and_resumes_do_not_change_the_order(shards, workers, ranks, start):
    expected = [source(shards, flip=True).batch((start + i) * 8, 8) for i in range(3)]
    share = 8 // ranks
    s = source(shards, flip=True)
    by_rank = []
    for rank in range(ranks):
        # A rank's share of each step: every one of them starts anew at the step of resuming.
        batches = [s.batch((start + i) * 8 + rank * share, share) for i in range(3)]
        by_rank.append(batches)
    for i, whole in enumerate(expected):
        assert [c for batches in by_rank for c in batches[i].captions] == whole.captions
        together = np.concatenate([batches[i].images.numpy() for batches in by_rank])
        assert np.array_equal(together, whole.images.numpy())
    batches = stream(s, start * 8, 8, workers)
    for whole in expected:
        got = next(batches)
        assert got.captions == whole.captions
        assert np.array_equal(got.images.numpy(), whole.images.numpy())
    batches.close()


def test_two_sets_mix_by_weight(shards, tmp_path):
    other = tmp_path / "other"
    prepared(captioned_folder(tmp_path / "folder", 20, size=(70, 70)), other, duplicates="keep")
    s = source(shards, other, weights=(3.0, 1.0))
    sets = [s.key(p)[0] for p in range(8 * 400)]
    assert sets.count(0) == 3 * sets.count(1)
    rows = [s.key(p)[1] for p in range(8 * 400) if sets[p] == 1]
    for epoch in range(5):
        assert sorted(rows[epoch * 20 : epoch * 20 + 20]) == list(range(20))
    by_size = source(shards, other)
    assert [by_size.key(p)[0] for p in range(8 * 110)].count(0) == pytest.approx(8 * 90, abs=8)


def test_a_damaged_row_is_skipped_counted_and_listed(shards, tmp_path):
    broken = shutil.copytree(shards, tmp_path / "broken")
    reader = ShardReader(str(broken))
    where = int(reader._pictures.offset[5]) + 40
    path = broken / reader.index.shards[int(reader.shard[5])].file
    data = bytearray(path.read_bytes())
    data[where] ^= 0xFF
    path.write_bytes(data)
    s, whole = source(broken), source(shards)
    lost = pq.read_table(shards / "data")["caption"].to_pylist()[5]
    for start in range(0, 96, 8):
        good, got = whole.batch(start, 8), s.batch(start, 8)
        differ = [i for i in range(8) if good.captions[i] != got.captions[i]]
        assert differ == [i for i, c in enumerate(good.captions) if c == lost]
        if differ:  # a rank that reads this sample alone sees the same
            assert s.batch(start + differ[0], 1).captions == [got.captions[differ[0]]]
    (skipped,) = s.skipped
    assert "checksum" in skipped.reason
    assert skipped.path == reader.name(5)


def test_a_damaged_shard_is_listed_and_past_the_threshold_ends_the_run(shards, tmp_path):
    broken = shutil.copytree(shards, tmp_path / "broken")
    path = sorted((broken / "data").iterdir())[1]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"train-00001-of-.* bytes long, should be .* data.bad_share 0.01 allows"):
        source(broken)
    s = source(broken, bad_share=0.5)
    captions = [c for start in range(0, 90, 8) for c in s.batch(start, 8).captions]
    lost = s.sets[0].reader.index.shards[1].rows
    assert len(s.skipped) == 1 + lost
    assert len(set(captions)) == 90 - lost
    path.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        source(broken)


def test_rows_that_turn_out_bad_end_the_run_past_the_threshold(shards, tmp_path):
    broken = shutil.copytree(shards, tmp_path / "broken")
    reader = ShardReader(str(broken))
    for i in range(3):
        path = broken / reader.index.shards[int(reader.shard[i])].file
        data = bytearray(path.read_bytes())
        data[int(reader._pictures.offset[i]) + 30] ^= 0xFF
        path.write_bytes(data)
    s = source(broken, bad_share=0.02)
    with pytest.raises(
        ConfigError, match=r"2 of 90 rows are damaged, more than data.bad_share 0.02; the last: .*, row"
    ):
        for start in range(0, 90, 8):
            s.batch(start, 8)


def test_a_bomb_in_a_shard_is_refused(tmp_path):
    from making import picture

    import daybreak.data.pictures as pictures

    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="megapixels"):
        decode_to_bucket((tmp_path / "bomb.png").read_bytes(), (64, 64))
    picture(0).save(tmp_path / "fine.png")
    assert decode_to_bucket((tmp_path / "fine.png").read_bytes(), (64, 64)).size == (64, 64)
    assert pictures.MAX_PIXELS < 400_000_000


@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_decoders_half_is_as_near_to_the_original_as_means_of_the_whole(subsampling):
    apart: dict[str, list[float]] = {"half": [], "means": []}
    for seed in range(3):
        noise = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (128, 128, 3), dtype=np.uint8))
        original = Image.blend(noise.resize((512, 512)), picture(seed, (512, 512)), 0.5)
        buffer = io.BytesIO()
        original.save(buffer, "JPEG", quality=92, subsampling=subsampling)
        expected = np.asarray(original.resize((256, 256), Image.Resampling.LANCZOS)).astype(int)
        half, means = decode_to_bucket(buffer.getvalue(), (256, 256)), Image.open(buffer).reduce(2)
        for name, found in (("half", half), ("means", means)):
            apart[name].append(np.abs(np.asarray(found).astype(int) - expected).mean())
    assert np.mean(apart["half"]) < 1.1 * np.mean(apart["means"])


def test_remote_shards_are_cached_up_to_a_size(shards, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/remote", recursive=True)
    with pytest.raises(ConfigError, match=r"data\.cache"):
        source("memory://remote")
    largest = max(s.bytes for s in ShardReader(str(shards)).index.shards)
    remote = source("memory://remote", cache=tmp_path / "cache", cache_bytes=2 * largest)
    local = source(shards)
    for start in range(0, 96, 8):
        a, b = remote.batch(start, 8), local.batch(start, 8)
        assert a.captions == b.captions
        assert np.array_equal(a.images.numpy(), b.images.numpy())
    assert sum(p.stat().st_size for p in (tmp_path / "cache").rglob("*.parquet")) <= 2 * largest


def test_other_tools_read_the_shards(shards):
    pandas = pytest.importorskip("pandas")
    assert len(pandas.read_parquet(shards / "data")) == 90
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(shards), split="train", streaming=True)
    rows = list(loaded)
    assert len(rows) == 90
    assert rows[0]["image"].size == (64, 64)
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(f"select count(*), min(width) from '{shards}/data/*.parquet'").fetchall()[0][0] == 90


def test_rows_without_a_caption_are_not_trained_on(tmp_path):
    folder = captioned_folder(tmp_path / "folder", 6)
    text = (folder / "metadata.jsonl").read_text().replace("picture number 2", "")
    (folder / "metadata.jsonl").write_text(text)
    prepared(folder, tmp_path / "out", uncaptioned=True)
    s = source(tmp_path / "out", batch=2)
    assert {c for p in range(0, 12, 2) for c in s.batch(p, 2).captions} == {
        f"picture number {i}" for i in range(6) if i != 2
    }
    assert "1 rows have no caption" in s.skipped[0].reason
