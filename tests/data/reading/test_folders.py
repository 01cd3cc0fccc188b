"""Every file of a folder is used, a caption, or left out with its reason; by all readers alike."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import encoded, lines_of, prepared

from daybreak.config import ConfigError
from daybreak.data.folder import FolderSource
from daybreak.data.inspect.look import look_at
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.rows import source_rows
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import make_plan
from daybreak.finetune.pictures import open_pictures
from daybreak.finetune.shapes import Shapes


def read(folder, **reading):
    """(key -> captions of what is used, path -> reason of what is left out)."""
    how = Reading(**reading)
    plan = make_plan([str(folder)], how)
    rows = list(source_rows(plan, how))
    used = {r.key: [t for texts in r.captions.values() for t in texts] for r in rows if r.problem is None}
    return used, {k: why for k, _, why in plan.left} | {r.key: r.problem for r in rows if r.problem}


def put(folder: Path, *names: str, start=0) -> None:
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(start + i, kind="JPEG" if name.lower().endswith("jpg") else "PNG"))


def jsonl(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_every_file_is_counted_and_all_commands_agree(tmp_path):
    folder = tmp_path / "set"
    put(folder, "a.jpg", "b.png", "deep/c.PNG", "é.png", "p.png", "silent.png", ".hidden.png", ".cache/x.png")
    (folder / "a.txt").write_text("first\r\nsecond")
    (folder / "b.caption").write_text("kohya's")
    (folder / "deep/c.TXT").write_text("shouted")
    (folder / unicodedata.normalize("NFD", "é.txt")).write_text("accented")
    (folder / "p.png.txt").write_text("double suffix")
    (folder / "lonely.txt").write_text("nobody's")
    (folder / "odd.png").write_bytes(encoded(50, kind="PNG"))
    (folder / "odd.txt").write_bytes(b"caf\x81")
    (folder / "q.psd").write_bytes(b"8BPS" + bytes(64))
    (folder / "q.txt").write_text("of the psd")
    (folder / "v.svg").write_text("<svg/>")
    (folder / "notes.docx").write_bytes(b"x")
    used = {"a.jpg": "first\nsecond", "b.png": "kohya's", "deep/c.PNG": "shouted", "é.png": "accented",
            "p.png": "double suffix"}  # fmt: skip
    out = {
        "silent.png",
        ".hidden.png",
        ".cache/x.png",
        "lonely.txt",
        "odd.png",
        "q.psd",
        "q.txt",
        "v.svg",
        "notes.docx",
    }

    prepared(folder, tmp_path / "out")
    stored = pq.read_table(tmp_path / "out/data").to_pylist()
    assert {r["key"]: r["caption"] for r in stored} == used
    dropped = {d["key"]: d["reason"] for d in lines_of(tmp_path / "out/dropped.jsonl")}
    assert dropped.keys() == out

    source = FolderSource(folder, 16, 0, (255, 255, 255))
    assert sorted(c for (c,) in source.captions) == sorted(used.values())
    assert {Path(s.path).relative_to(folder).as_posix(): s.reason for s in source.skipped} == dropped

    pictures = open_pictures(str(folder), Shapes.squares(16), (255, 255, 255))
    assert sorted(pictures.captions) == sorted(used.values())
    assert {Path(s.path).relative_to(folder).as_posix() for s in pictures.skipped} == out

    look = look_at(str(folder), PrepareSettings(size=64, patch=8), 0, lambda *_: None)
    assert {row.key: row.captions["caption"] for row in look.rows} == used
    assert {key for key, _, _ in look.dropped} == out

    assert "psd-tools" in dropped["q.psd"]
    assert "cairosvg" in dropped["v.svg"]
    assert dropped["q.txt"] == "the caption of q.psd, which is not read"
    assert dropped["odd.png"].startswith("odd.txt: not UTF-8 text")
    assert "hidden" in dropped[".cache/x.png"]


def test_names_that_differ_in_case_or_unicode_form_and_shared_captions(tmp_path):
    put(tmp_path, "IMG.PNG", "two.jpg", "two.png", "A.png", "a.png")
    (tmp_path / "img.TXT").write_text("in other case")
    (tmp_path / "two.txt").write_text("shared")
    (tmp_path / "two.png.txt").write_text("its own")
    (tmp_path / "A.txt").write_text("large")
    (tmp_path / "a.txt").write_text("small")
    used, left = read(tmp_path)
    assert used == {"IMG.PNG": ["in other case"], "two.jpg": ["shared"], "two.png": ["its own"], "A.png": ["large"],
                    "a.png": ["small"]}  # fmt: skip
    assert not left


def test_json_beside_pictures_and_captions_that_disagree(tmp_path):
    put(tmp_path, "a.png", "b.png")
    (tmp_path / "a.json").write_text('{"caption": "from json", "width": 3}')
    (tmp_path / "b.txt").write_text("from txt")
    (tmp_path / "b.caption").write_text("from caption")
    plan = make_plan([str(tmp_path)], Reading())
    rows = {r.key: r for r in source_rows(plan, Reading())}
    assert rows["a.png"].captions == {"caption": ["from json"]}
    assert rows["b.png"].captions == {"caption": ["from txt"]}
    assert rows["b.png"].notes == ["b.caption says something else and is not read"]


def test_folders_behind_links_are_read_once_and_circles_end(tmp_path):
    put(tmp_path / "elsewhere", "a.png")
    (tmp_path / "elsewhere/a.txt").write_text("behind a link")
    put(tmp_path / "set", "b.png", start=1)
    (tmp_path / "set/b.txt").write_text("plain")
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/circle").symlink_to(tmp_path / "set")
    (tmp_path / "set/gone.png").symlink_to(tmp_path / "gone.png")
    used, left = read(tmp_path / "set")
    assert used == {"b.png": ["plain"], "linked/a.png": ["behind a link"]}
    assert left == {"circle": "a link that leads back to a folder above it", "gone.png": "a link to nothing"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("below", ["", "train"])
def test_metadata_in_all_its_forms_and_places(tmp_path, kind, below):
    names = [f"{i}.png" for i in range(3)]
    put(tmp_path / below, *names, "unnamed.png")
    rows = [{"file_name": n, "text": f"caption of {n}"} for n in names]
    path = tmp_path / below / f"metadata.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        path.write_text("file_name,text\n" + "".join(f"{r['file_name']},{r['text']}\n" for r in rows))
    else:
        jsonl(path, rows)
    used, left = read(tmp_path)
    prefix = f"{below}/" if below else ""
    assert used == {f"{prefix}{n}": [f"caption of {n}"] for n in names}
    assert left == {f"{prefix}unnamed.png": f"{prefix}metadata.{kind} does not name it"}


def test_metadata_at_the_root_and_below_are_all_read_and_the_nearest_has_the_word(tmp_path):
    put(tmp_path, "a.png", "cats/b.png", "dogs/c.png", "plain/d.png")
    jsonl(
        tmp_path / "metadata.jsonl", [{"file_name": n, "text": "root"} for n in ("a.png", "cats/b.png", "plain/d.png")]
    )
    jsonl(tmp_path / "cats/metadata.jsonl", [{"file_name": "b.png", "text": "cats"}])
    (tmp_path / "dogs/metadata.csv").write_text("file_name,text\nc.png,dogs\n")
    used, left = read(tmp_path)
    assert used == {"a.png": ["root"], "cats/b.png": ["cats"], "dogs/c.png": ["dogs"], "plain/d.png": ["root"]}
    assert left == {"metadata.jsonl, line 2": "cats/metadata.jsonl names cats/b.png too"}


def test_paths_as_other_systems_write_them(tmp_path):
    put(tmp_path, "img/a.png", "img/B.PNG", "img/é.png")
    names = ["img\\a.png", "img/b.png", unicodedata.normalize("NFD", "img/é.png")]
    jsonl(tmp_path / "metadata.jsonl", [{"file_name": n, "text": f"caption {i}"} for i, n in enumerate(names)])
    used, left = read(tmp_path)
    assert used == {"img/a.png": ["caption 0"], "img/B.PNG": ["caption 1"], "img/é.png": ["caption 2"]}
    assert not left


def test_lists_of_captions_are_drawn_from_in_training(tmp_path):
    folder = tmp_path / "set"
    put(folder, *[f"{i}.png" for i in range(4)])
    jsonl(folder / "metadata.jsonl", [{"file_name": f"{i}.png", "text": [f"{i} one", f"{i} two"]} for i in range(4)])
    source = FolderSource(folder, 16, 0, (255, 255, 255))
    seen = Counter(source.batch(0, 400).captions)
    assert len(seen) == 8 and min(seen.values()) > 25
    assert source.batch(8, 4).captions == source.batch(0, 12).captions[8:]
    assert "4 of them with several captions" in source.describe()
    prepared(folder, tmp_path / "out")
    assert pq.read_table(tmp_path / "out/data")["caption_others"].to_pylist() == [[f"{i} two"] for i in range(4)]
    lines = FolderSource(folder, 16, 0, (255, 255, 255), lines="first")
    assert {c for of in lines.captions for c in of} == set(seen)


def test_errors_name_what_was_seen(tmp_path):
    put(tmp_path, *[f"{i}.png" for i in range(3)])
    (tmp_path / "captions.csv").write_text("file_name,text\n0.png,zero\n")
    with pytest.raises(ConfigError, match=r"3 pictures and no caption; .*1 .csv; if they are in captions.csv"):
        read(tmp_path)
    assert read(tmp_path / "captions.csv")[0] == {"0.png": ["zero"]}
    jsonl(tmp_path / "images/metadata.jsonl", [{"file_name": "images/0.png", "text": "x"}])
    (tmp_path / "0.png").rename(tmp_path / "images/0.png")
    with pytest.raises(
        ConfigError, match="none of the 1 pictures that it names is there, such as images/0.png; 0.png is there"
    ):
        read(tmp_path / "images")


def test_without_captions_a_table_is_ignored_only_where_it_names_no_picture(tmp_path):
    for seed, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes(encoded(seed))
    table = tmp_path / "metadata.jsonl"
    table.write_text(json.dumps({"tag": "colors", "prompt": "a red dog"}) + "\n")
    used, left = read(tmp_path, uncaptioned=True)
    assert used.keys() == {"a.png", "b.png"} and left["metadata.jsonl"] == "a table that names no picture"
    table.write_text(json.dumps({"first": "a.png", "second": "b.png"}) + "\n")
    with pytest.raises(ConfigError, match=r"several columns hold pictures \(first, second\)"):
        read(tmp_path, uncaptioned=True)
    with pytest.raises(ConfigError, match="has no column third"):
        read(tmp_path, uncaptioned=True, image_column="third")
