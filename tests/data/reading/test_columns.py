"""Tables with pictures in them: which column is the picture, and what a cell may hold."""

import base64
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import encoded, picture, prepared
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.reading.rows import source_rows
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import make_plan, settled
from daybreak.data.shards.reader import ShardReader

N = 5
TEXT = [f"picture {i}" for i in range(N)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def grey(i: int) -> bytes:
    buffer = io.BytesIO()
    picture(100 + i).convert("L").save(buffer, "PNG")
    return buffer.getvalue()


def structs(make) -> pa.Array:
    return pa.array([{"bytes": make(i), "path": f"{i}.png"} for i in range(N)], STRUCT)


def read(tmp_path, table, **reading):
    if not (tmp_path / "t.parquet").exists():
        pq.write_table(pa.table(table), tmp_path / "t.parquet")
    how = Reading(**reading)
    return list(source_rows(make_plan([str(tmp_path / "t.parquet")], how), how))


def base64_column():
    return [base64.b64encode(encoded(i)).decode() for i in range(N)]


@pytest.mark.parametrize(
    "table",
    [
        {"conditioning_image": structs(grey), "image": structs(encoded)},
        {"md5": pa.array([bytes([i]) * 16 for i in range(N)], pa.binary()), "image": structs(encoded)},
        {"thumbnail": pa.array([grey(i) for i in range(N)]), "jpg": pa.array([encoded(i) for i in range(N)])},
        {"image": base64_column()},
        {"image": [f"data:image/jpeg;base64,{b}" for b in base64_column()]},
        {"scan": structs(encoded)},
        {"path": [f"gone/{i}.jpg" for i in range(N)], "content": pa.array([encoded(i) for i in range(N)])},
        {"url": [f"https://nowhere.invalid/{i}.jpg" for i in range(N)], "image": structs(encoded)},
        {"images": pa.array([[{"bytes": encoded(i), "path": "a"}] for i in range(N)], pa.list_(STRUCT))},
        {"image": pa.array([encoded(i) for i in range(N)], pa.large_binary())},
    ],
    ids=lambda t: "+".join(t),
)
def test_the_picture_is_found_by_name_and_content(tmp_path, table):
    rows = read(tmp_path, {**table, "text": TEXT})
    assert [r.data for r in rows] == [encoded(i) for i in range(N)]
    assert [r.captions for r in rows] == [{"caption": [t]} for t in TEXT]


def test_the_first_of_a_list_is_taken_with_a_note(tmp_path):
    lists = pa.array([[{"bytes": encoded(i)}, {"bytes": grey(i)}] for i in range(N)])
    rows = read(tmp_path, {"images": lists, "text": TEXT})
    assert [r.data for r in rows] == [encoded(i) for i in range(N)]
    assert rows[0].notes == ["the first of 2 pictures is used"]


@pytest.mark.parametrize("names", [("image", "picture"), ("before", "after")])
def test_several_candidates_are_a_question(tmp_path, names):
    table = {names[0]: structs(encoded), names[1]: structs(grey), "text": TEXT}
    with pytest.raises(ConfigError, match=f"several columns hold pictures .{names[0]}, {names[1]}.*--image-column"):
        read(tmp_path, table)
    assert read(tmp_path, table, image_column=names[1])[0].data == grey(0)


def test_paths_in_a_table_are_found_and_missing_ones_named(tmp_path):
    for i in range(N - 1):
        (tmp_path / f"{i}.jpg").write_bytes(encoded(i))
    rows = read(tmp_path, {"note": ["x"] * N, "picture": [f"{i}.jpg" for i in range(N)], "text": TEXT})
    assert [r.data for r in rows[:-1]] == [encoded(i) for i in range(N - 1)]
    assert rows[-1].problem == "no such file"


def test_columns_that_nobody_asked_for_are_told(tmp_path):
    pq.write_table(pa.table({"image": structs(encoded), "text": TEXT, "title": TEXT}), tmp_path / "t.parquet")
    plan = make_plan([str(tmp_path / "t.parquet")], Reading())
    assert "title look like some too (--caption text --caption title takes all)" in plan.notes[0][1]


def test_our_own_shards_are_read_again_with_all_their_captions(tmp_path):
    lists = [[f"a{i}", f"b{i}"] for i in range(N)]
    pq.write_table(pa.table({"image": structs(encoded), "long": lists, "short": TEXT}), tmp_path / "t.parquet")
    prepared(tmp_path / "t.parquet", tmp_path / "one", captions={"long": 0.7, "short": 0.3})
    captions = tmp_path / "one/captions/written"
    captions.mkdir(parents=True)
    keys = pq.read_table(tmp_path / "one/data")["key"]
    pq.write_table(pa.table({"key": keys, "written": [f"w{i}" for i in range(N)]}), captions / "00000.parquet")
    index = json.loads((tmp_path / "one/index.json").read_text())
    index["captions"]["written"], index["written"] = 1.0, {"written": {}}
    (tmp_path / "one/index.json").write_text(json.dumps(index))
    assert settled([str(tmp_path / "one")], Reading()).captions == {"long": 0.7, "short": 0.3, "written": 1.0}
    prepared(tmp_path / "one", tmp_path / "two", encoding="png")
    first, second = ShardReader(str(tmp_path / "one")), ShardReader(str(tmp_path / "two"))
    assert len(second) == N
    for i in range(N):
        assert second.all_captions(i) == {"long": lists[i], "short": [TEXT[i]], "written": [f"w{i}"]}
        assert first.all_captions(i) == second.all_captions(i)


def test_jsonl_with_pictures_inside(tmp_path):
    lines = [json.dumps({"img": b, "prompt": t}) for b, t in zip(base64_column(), TEXT, strict=True)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    how = Reading()
    rows = list(source_rows(make_plan([str(tmp_path / "t.jsonl")], how), how))
    assert [r.data for r in rows] == [encoded(i) for i in range(N)]
    assert Image.open(io.BytesIO(rows[0].data)).size == (96, 96)
