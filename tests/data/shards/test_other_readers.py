"""The tools that docs/data_format.md names read a set as one table, each picture once; those that are installed.

Captions that a model wrote lie below the set by then, and smaller copies beside its pictures.
"""

import io

import pyarrow.parquet as pq
import pytest
from making import captioned_folder, prepared
from PIL import Image

from daybreak.data.caption import write_captions
from daybreak.data.settings import Captioning, CaptionSettings, ModelWork
from daybreak.data.shards.reader import ShardReader
from tests.data.tiny_vlm import tiny_vlm

N = 12


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    prepared(captioned_folder(root / "set", N), root / "out", shard_mb=0.01, copy_size=32)
    assert len(list((root / "out/data").iterdir())) > 1
    how = Captioning(tiny_vlm(root / "vlm"), "Say.", max_tokens=4)
    asked = CaptionSettings(how, batch=4, work=ModelWork(workers=0))
    assert write_captions(str(root / "out"), asked, lambda *_: None) == N
    return root / "out"


def by_pyarrow(shards):
    assert not [p for p in shards.rglob("*.parquet") if p.parent != shards / "data"]
    return pq.read_table(shards / "data").num_rows


def by_pandas(shards):
    return len(pytest.importorskip("pandas").read_parquet(shards / "data"))


def by_polars(shards):
    polars = pytest.importorskip("polars")
    written = polars.read_ipc(shards / "captions/written/*.arrow")
    assert written.columns == ["key", "written"] and len(written) == N
    return len(polars.read_parquet(shards / "data"))


def by_duckdb(shards):
    duckdb = pytest.importorskip("duckdb")
    ((everything,),) = duckdb.sql(f"select count(*) from '{shards}/**/*.parquet'").fetchall()
    ((documented,),) = duckdb.sql(f"select count(*) from '{shards}/data/*.parquet'").fetchall()
    assert everything == documented
    return documented


def by_datasets(shards):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(shards), split="train", cache_dir=str(shards.parent / "cache"))
    assert loaded[0]["image"].size == (64, 64)
    assert Image.open(io.BytesIO(loaded[0]["image_copy"])).size == (32, 32)
    return len(loaded)


def by_ray(shards):
    ray = pytest.importorskip("ray")
    data = pytest.importorskip("ray.data")
    ray.init(num_cpus=1, include_dashboard=False, ignore_reinit_error=True, log_to_driver=False)
    try:
        return data.read_parquet(str(shards / "data")).count()
    finally:
        ray.shutdown()


@pytest.mark.parametrize("reader", [by_pyarrow, by_pandas, by_polars, by_duckdb, by_datasets, by_ray])
def test_each_picture_is_counted_once(shards, reader):
    assert reader(shards) == N


def test_copies_stay_where_captions_are_written(shards):
    reader = ShardReader(str(shards))
    assert list(reader.index.captions) == ["caption", "written"]
    assert [reader.copy(i, (32, 32)).size for i in range(N)] == [(32, 32)] * N
