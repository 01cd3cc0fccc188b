"""One set of pictures in every form that users have it in: all of them give the same rows."""

import csv
import functools
import http.server
import io
import json
import tarfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import SMALL, captioned_folder, encoded, lines_of, prepared

from daybreak.config import ConfigError
from daybreak.data.prepare.run import prepare
from daybreak.data.prepare.settings import PrepareSettings

N = 7
CAPTIONS = [f"picture number {i}" for i in range(N)]


def rows_of(out: Path) -> list[tuple[str, str]]:
    table = pq.read_table(out / "data")
    return sorted(zip(table["sha256"].to_pylist(), table["caption"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    root = tmp_path_factory.mktemp("reference")
    folder = captioned_folder(root / "folder", N)
    prepared(folder, root / "out")
    rows = rows_of(root / "out")
    assert len(rows) == N
    return folder, rows


def add_to_tar(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def as_text_files(folder, target):
    for i, caption in enumerate(CAPTIONS):
        (target / f"{i:04d}.jpg").write_bytes((folder / f"{i:04d}.jpg").read_bytes())
        (target / f"{i:04d}.txt").write_text(caption)


def as_tar(folder, target, mode="w", name="set-000.tar"):
    with tarfile.open(target / name, mode) as tar:
        for i, caption in enumerate(CAPTIONS):
            add_to_tar(tar, f"./{i:04d}.jpg", (folder / f"{i:04d}.jpg").read_bytes())
            if i % 2:
                add_to_tar(tar, f"./{i:04d}.json", json.dumps({"caption": caption}).encode())
            else:
                add_to_tar(tar, f"./{i:04d}.txt", caption.encode())


def as_tar_gz(folder, target):
    as_tar(folder, target, "w:gz", "set.tar.gz")


def hub_table(folder) -> pa.Table:
    images = [{"bytes": (folder / f"{i:04d}.jpg").read_bytes(), "path": f"{i}.jpg"} for i in range(N)]
    return pa.table({"image": images, "text": CAPTIONS, "score": list(range(N))})


def as_parquet(folder, target):
    pq.write_table(hub_table(folder), target / "train.parquet", row_group_size=3)


def as_arrow(folder, target):
    table = hub_table(folder)
    with pa.ipc.new_stream(target / "data.arrow", table.schema) as writer:
        writer.write_table(table)


def as_arrow_file(folder, target):
    table = hub_table(folder)
    with pa.ipc.new_file(target / "data.arrow", table.schema) as writer:
        writer.write_table(table)


def as_jsonl_of_paths(folder, target):
    lines = [json.dumps({"path": str(folder / f"{i:04d}.jpg"), "prompt": c}) for i, c in enumerate(CAPTIONS)]
    (target / "list.jsonl").write_text("\n".join(lines))


def as_csv_of_relative_paths(folder, target):
    (target / "pictures").mkdir()
    with (target / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "description"])
        for i, caption in enumerate(CAPTIONS):
            (target / "pictures" / f"{i}.jpg").write_bytes((folder / f"{i:04d}.jpg").read_bytes())
            writer.writerow([f"pictures/{i}.jpg", caption])


FORMS = [as_text_files, as_tar, as_tar_gz, as_parquet, as_arrow, as_arrow_file, as_jsonl_of_paths]


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_every_form_gives_the_same_rows(reference, tmp_path, form):
    folder, rows = reference
    source = tmp_path / "source"
    source.mkdir()
    form(folder, source)
    prepared(source, tmp_path / "out")
    assert rows_of(tmp_path / "out") == rows


def test_a_table_is_named_by_its_file(reference, tmp_path):
    folder, rows = reference
    as_csv_of_relative_paths(folder, tmp_path)
    prepared(tmp_path / "list.csv", tmp_path / "out")
    assert rows_of(tmp_path / "out") == rows


def test_patterns_and_several_sources(reference, tmp_path):
    folder, rows = reference
    (tmp_path / "a").mkdir()
    for half, span in (("x.tar", range(3)), ("y.tar", range(3, N))):
        with tarfile.open(tmp_path / "a" / half, "w") as tar:
            for i in span:
                add_to_tar(tar, f"{i:04d}.jpg", (folder / f"{i:04d}.jpg").read_bytes())
                add_to_tar(tar, f"{i:04d}.txt", CAPTIONS[i].encode())
    prepared(str(tmp_path / "a" / "*.tar"), tmp_path / "pattern")
    assert rows_of(tmp_path / "pattern") == rows
    prepared([tmp_path / "a" / "x.tar", folder], tmp_path / "both", duplicates="keep")
    assert len(rows_of(tmp_path / "both")) == N + 3
    keys = pq.read_table(tmp_path / "both" / "data")["key"].to_pylist()
    assert len(set(keys)) == N + 3


def test_addresses_are_fetched_and_failures_named(reference, tmp_path):
    folder, rows = reference
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        lines = [json.dumps({"url": f"{base}/{i:04d}.jpg", "text": c}) for i, c in enumerate(CAPTIONS)]
        lines.append(json.dumps({"url": f"{base}/gone.jpg", "text": "gone"}))
        (tmp_path / "list.jsonl").write_text("\n".join(lines))
        prepared(tmp_path / "list.jsonl", tmp_path / "out")
        server.shutdown()
    assert rows_of(tmp_path / "out") == rows
    (dropped,) = lines_of(tmp_path / "out" / "dropped.jsonl")
    assert dropped["reason"].startswith("the server answers 404")


def test_fsspec_in_and_out(reference):
    import fsspec

    from daybreak.data.shards.reader import read_index

    folder, _ = reference
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe_file(f"/in/{path.name}", path.read_bytes())
    prepared("memory://in", "memory://out")
    assert read_index("memory://out").rows == N
    with memory.open("/out/data/train-00000-of-00001.parquet") as file:
        assert pq.read_table(file)["caption"].to_pylist() == CAPTIONS


def test_several_caption_columns_with_weights(tmp_path):
    table = pa.table(
        {
            "image": [{"bytes": encoded(i), "path": None} for i in range(3)],
            "long": ["a long one", None, ""],
            "short": ["short", "only short", None],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    result = prepared(tmp_path / "t.parquet", tmp_path / "out", captions={"long": 0.7, "short": 0.3})
    assert result.index.captions == {"long": 0.7, "short": 0.3}
    stored = pq.read_table(tmp_path / "out" / "data")
    assert stored["long"].to_pylist() == ["a long one", None]
    assert stored["short"].to_pylist() == ["short", "only short"]
    assert result.index.dropped == {"no caption": 1}


def test_damaged_files_lose_only_what_is_damaged(reference, tmp_path):
    folder, _ = reference
    source = tmp_path / "source"
    source.mkdir()
    as_tar(folder, source)
    whole = (source / "set-000.tar").read_bytes()
    (source / "set-001.tar").write_bytes(whole[: len(whole) // 2])
    (source / "set-002.tar").write_bytes(b"no tar at all" * 100)
    result = prepared(source, tmp_path / "out")
    assert result.index.rows == N
    reasons = {d["key"]: d["reason"] for d in lines_of(tmp_path / "out" / "dropped.jsonl") if d["kind"] == "broken"}
    assert reasons.keys() == {"set-001.tar", "set-002.tar"}
    assert all("the file is damaged after" in r for r in reasons.values())


def test_what_is_ignored_is_listed(reference, tmp_path):
    folder, _ = reference
    source = tmp_path / "source"
    source.mkdir()
    as_text_files(folder, source)
    (source / "lonely.txt").write_text("a caption")
    (source / "notes.docx").write_bytes(b"x")
    (source / ".DS_Store").write_bytes(b"x")
    prepared(source, tmp_path / "out")
    listed = {d["key"]: d["reason"] for d in lines_of(tmp_path / "out" / "dropped.jsonl")}
    assert listed.keys() == {"lonely.txt", "notes.docx", ".DS_Store"}
    assert listed["lonely.txt"] == "a caption without its picture"


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda _: None, {}, "source: there is nothing in it"),
        (lambda d: (d / "a.docx").write_text("x"), {}, "no pictures, .tar, .parquet"),
        (lambda d: (d / "a.jpg").write_bytes(b"x"), {}, "1 pictures and no caption.*--uncaptioned"),
        (lambda d: (d / "l.jsonl").write_text('{"drawing": "a", "text": "b"}'), {}, "--image-column: drawing, text"),
        (lambda d: (d / "l.jsonl").write_text('{"path": "a", "words": "b"}'), {}, "--caption: words"),
        (lambda d: (d / "l.jsonl").write_text('{"path": '), {}, "l.jsonl, line 1 is not JSON"),
        (
            lambda d: (d / "l.csv").write_text("path,text\na,b"),
            {"captions": {"long": 1.0}},
            "no column long; it has text",
        ),
        (
            lambda d: (d / "l.csv").write_text("path,text\ngone.jpg,b"),
            {},
            "none of the 1 pictures that it names is there, such as gone.jpg",
        ),
        (
            lambda d: ((d / "a.jpg").write_bytes(b"x"), (d / "b.tar").write_bytes(b"x")),
            {},
            "several kinds of sources .a.jpg, b.tar",
        ),
    ],
)
def test_a_useless_source_says_what_would_be_right(tmp_path, make, settings, message):
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    with pytest.raises(ConfigError, match=message):
        prepared(source, tmp_path / "out", **settings)


def test_other_errors_of_the_user(tmp_path, reference):
    folder, _ = reference
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        prepared(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        prepared(folder, tmp_path / "full")
    with pytest.raises(ConfigError, match="--size 64 does not divide by --patch 30; --size 60 does"):
        prepared(folder, tmp_path / "out", patch=30)
    prepared(folder, tmp_path / "done")
    assert prepared(folder, tmp_path / "done").already
    with pytest.raises(ConfigError, match="holds shards of other sources or settings"):
        prepared(folder, tmp_path / "done", quality=80)


def test_a_work_folder_of_the_users_own_is_left_alone(tmp_path, reference):
    folder, _ = reference
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.doc").write_text("mine")

    def prepare_in(work, out="out"):
        return prepare([str(folder)], str(tmp_path / out), PrepareSettings(**SMALL), 0, work=work)

    with pytest.raises(ConfigError, match="--work .*mine is not empty, and is removed at the end"):
        prepare_in(mine)
    for work in (tmp_path / "out", tmp_path):
        with pytest.raises(ConfigError, match="holds --out"):
            prepare_in(work)
    with pytest.raises(ConfigError, match="thesis.doc cannot be a folder: Not a directory"):
        prepare_in(mine / "thesis.doc")
    with pytest.raises(ConfigError, match="--out .*thesis.doc cannot be a folder: Not a directory"):
        prepare_in(None, "mine/thesis.doc")
    assert not prepare_in(tmp_path / "work").already and not (tmp_path / "work").exists()
    assert prepare_in(mine).already
    assert (mine / "thesis.doc").read_text() == "mine"
