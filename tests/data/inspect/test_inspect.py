"""`daybreak inspect`: faults of a set are found, a good one is left in peace, and the page stands on its own."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from making import captioned_folder, encoded, prepared

from daybreak.data.inspect.captions import caption_facts
from daybreak.data.inspect.findings import examine
from daybreak.data.inspect.look import look_at
from daybreak.data.inspect.page import write_page
from daybreak.data.prepare.settings import PrepareSettings

SETTINGS = PrepareSettings(size=64, patch=8)
NOUNS = "fox boat tower river lantern bridge apple violin garden mountain".split()  # noqa: SIM905


def varied(i: int) -> str:
    a, b, c = NOUNS[i % 10], NOUNS[i // 10 % 10], NOUNS[i // 100 % 10]
    ways = [
        f"{a.capitalize()} beside the {b}, painted in soft morning light with a {c} far away",
        f"In a quiet valley stands an old {b} where some {a} and its {c} rest at noon",
        f"Close view of one {c} made of glass; behind it glows a {a} under the {b}",
        f"Two children carry a {b} past the {a} while rain falls on their {c}",
        f"Night scene: {b}, {a} and {c} drawn with ink on rough paper",
        f"Nobody noticed how the {a} grew into a {c} over the {b} that year",
    ]
    return ways[i % 6]


def folder_of(path, captions) -> None:
    path.mkdir(parents=True)
    rows = []
    for i, caption in enumerate(captions):
        (path / f"{i}.jpg").write_bytes(encoded(i))
        rows.append(json.dumps({"file_name": f"{i}.jpg", "text": caption}))
    (path / "metadata.jsonl").write_text("\n".join(rows))


def report_of(place, **options):
    look = look_at(str(place), SETTINGS, 0, lambda *_: None)
    return examine(look, **{"max_tokens": 77, "count_tokens": None} | options)


def test_a_varied_set_is_left_in_peace(tmp_path):
    folder_of(tmp_path / "set", [varied(i) for i in range(30)])
    report = report_of(tmp_path / "set")
    assert [f.what for f in report.findings] == ["30 usable pairs are few"]
    assert report.errors == 0


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        (lambda i: f"a photo of {varied(i)}", r'100% of the captions begin with "a photo of"'),
        (lambda _: "cat", "half of the captions have 1 words or fewer"),
        (lambda _: varied(0), "39 captions .98%. repeat another word for word"),
        (lambda i: f"Ein Hund und eine Katze sitzen auf dem Sofa mit Kissen Nummer {i}", "100% .* do not look English"),
        (lambda i: f"{chr(0x4E00 + i)}的猫在花园里", "100% .* do not look English"),
        (lambda i: varied(i) + " word" * 100, "40 captions .100.0%. are longer than 77 tokens, by an estimate"),
        (lambda i: f"the {NOUNS[i % 10]} is on the {NOUNS[i // 10]}", "built alike: .the … is on the …"),
        (lambda i: varied(i).replace("of", "cafÃ© lâ€™"), r"captions look as if read in a wrong encoding"),
        (lambda i: f"<b>{varied(i)}</b> &amp; more", r"40 captions hold markup"),
        (lambda i: varied(i) + "\x07", r"40 captions hold control characters"),
        (lambda i: varied(i) + ("\0" if i % 2 else ""), r"20 of 40 left out as unreadable caption"),
        (lambda i: varied(i) + ("\ufffd" if i % 2 else ""), r"20 of 40 left out as unreadable caption"),
        (
            lambda i: (
                f"a long and very careful description of what is seen in this one scene, in every detail, take {i}"
            ),
            "nearly repeat another",
        ),
    ],
)
def test_captions_that_teach_little_are_found(tmp_path, caption, found):
    folder_of(tmp_path / "set", [caption(i) for i in range(40)])
    texts = [f.what for f in report_of(tmp_path / "set").findings]
    assert any(re.search(found, t) for t in texts), texts


def test_every_finding_says_why_and_what_to_do(tmp_path):
    folder = captioned_folder(tmp_path / "set", 30)
    for i in range(8):
        (folder / f"{i:04d}.jpg").write_bytes(b"broken")
    (folder / "0009.jpg").write_bytes(encoded(10))
    report = report_of(folder)
    assert report.errors == 1
    assert "8 of 30 pictures cannot be read (26.7%)" in report.findings[0].what
    assert [e.split(":")[0] for e in report.findings[0].examples] == [f"{i:04d}.jpg" for i in range(5)]
    assert all(f.why and f.do for f in report.findings)
    assert any("1 of 30 left out as duplicate" in f.what for f in report.findings)


def test_source_and_shards_agree_and_damage_is_an_error(tmp_path):
    folder = captioned_folder(tmp_path / "set", 25)
    (folder / "0003.jpg").write_bytes(b"")
    prepared(folder, tmp_path / "out", shard_mb=0.03)
    source, shards = report_of(folder), report_of(tmp_path / "out")
    assert [f.what for f in source.findings] == [f.what for f in shards.findings]
    assert [r.key for r in source.look.rows] == [r.key for r in shards.look.rows]
    damaged = shutil.copytree(tmp_path / "out", tmp_path / "damaged")
    first = sorted((damaged / "data").iterdir())[0]
    first.write_bytes(first.read_bytes()[:-100])
    assert report_of(damaged).errors >= 1


def test_the_page_stands_on_its_own_and_escapes(tmp_path):
    folder_of(tmp_path / "set", ["<script>alert('x')</script> & a cat in the garden of old stones", varied(1)])
    write_page(report_of(tmp_path / "set"), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r"(src|href)=['\"]?http", page)


def test_tokens_are_counted_with_a_tokenizer(tmp_path):
    folder_of(tmp_path / "set", [varied(i) for i in range(10)])
    report = report_of(tmp_path / "set", count_tokens=lambda texts: np.array([78] * len(texts)))
    assert any(f.what == "10 captions (100.0%) are longer than 77 tokens" for f in report.findings)


def test_strict_leaves_with_1_where_there_are_errors(tmp_path):
    folder = captioned_folder(tmp_path / "my set", 20)
    (folder / "0000.jpg").write_bytes(b"broken")
    command = [sys.executable, "-m", "daybreak", "inspect", str(folder), "--size", "64", "--patch", "8"]
    command += ["--page", str(tmp_path / "page.html"), "--workers", "0"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    strict = subprocess.run([*command, "--strict"], capture_output=True, text=True)
    assert strict.returncode == 1
    assert "cannot be read" in strict.stdout
    assert (tmp_path / "page.html").exists()


def test_nothing_is_no_crash():
    facts = caption_facts([])
    assert facts.n == 0
    assert facts.beginning == ("", 0.0)
