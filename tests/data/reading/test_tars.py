"""WebDataset tars: which files are a sample, which of them is the picture; no caption comes to another picture."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from making import encoded, lines_of, prepared
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.folder import FolderSource
from daybreak.data.reading.rows import source_rows
from daybreak.data.reading.samples import find_samples
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import make_plan

WHITE = (255, 255, 255)


def mask() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((np.indices((96, 96)).sum(0) // 8 % 2 * 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(path: Path, files: list[tuple[str, bytes]], mode="w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read(path, **reading):
    """(key below the tar -> (picture's bytes, captions), what is left out -> why)."""
    how = Reading(**reading)
    rows = list(source_rows(make_plan([str(path)], how), how))
    short = {id(r): r.key.partition("/")[2] for r in rows}
    used = {short[id(r)]: (r.data, [t for ts in r.captions.values() for t in ts]) for r in rows if r.problem is None}
    return used, {short[id(r)]: r.problem for r in rows if r.problem}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
    "stems",
    [
        ["IMG_2024.05.12_001", "IMG_2024.05.12_002", "IMG_2024.05.12_003"],
        ["photo v1.8", "photo v1.9", "photo v1.10"],
        ["set.v1/0001", "set.v1/0002", "set.v2/0001"],
        ["a", "a.b", "a.b.c"],
        ["./x.1", "./x.2", "./y"],
    ],
)
def test_stems_with_dots_are_samples_of_their_own(tmp_path, stems, mode):
    files = []
    for i, stem in enumerate(stems):
        caption = (f"{stem}.txt", f"caption {i}".encode())
        if i % 2:
            caption = (f"{stem}.json", json.dumps({"caption": f"caption {i}"}).encode())
        files += [(f"{stem}.jpg", encoded(i)), caption]
    used, left = read(tar_of(tmp_path / "t.tar", files, mode))
    assert used == {s.removeprefix("./"): (encoded(i), [f"caption {i}"]) for i, s in enumerate(stems)}
    assert not left


def test_a_picture_without_caption_takes_nobodys(tmp_path):
    files = [
        ("d_2024.1.jpg", encoded(0)),
        ("d_2024.2.txt", b"of two"),
        ("d_2024.3.jpg", encoded(3)),
        ("d_2024.3.txt", b"3"),
    ]
    used, left = read(tar_of(tmp_path / "t.tar", files))
    assert {k: v[1] for k, v in used.items()} == {"d_2024.1": [], "d_2024.3": ["3"]}
    assert left == {"d_2024.2": "the sample has no picture; it has txt"}


@pytest.mark.parametrize("others", [["mask.png"], ["depth.png", "seg.png"], ["a_second.png"], ["normal_map.jpg"]])
@pytest.mark.parametrize("first", [True, False])
def test_the_plain_picture_is_the_picture_and_the_others_are_named(tmp_path, others, first):
    files = []
    for i in range(3):
        plain, sides = [(f"{i:04d}.jpg", encoded(i))], [(f"{i:04d}.{o}", mask()) for o in others]
        files += [*(sides + plain if first else plain + sides), (f"{i:04d}.txt", f"picture {i}".encode())]
    used, left = read(tar_of(tmp_path / "t.tar", files))
    assert used == {f"{i:04d}": (encoded(i), [f"picture {i}"]) for i in range(3)}
    assert left.keys() == {f"{i:04d}.{o}" for i in range(3) for o in others}
    assert f"--image-key {others[0]} takes it" in left[f"0000.{others[0]}"]
    asked, _ = read(tmp_path / "t.tar", image_key=others[0])
    assert {data for data, _ in asked.values()} == {mask()}


def test_several_pictures_alike_are_a_question_that_image_key_answers(tmp_path):
    files = []
    for i in range(3):
        files += [(f"{i}.left.jpg", encoded(i)), (f"{i}.right.jpg", encoded(50 + i)), (f"{i}.txt", b"both eyes")]
    path = tar_of(tmp_path / "t.tar", files)
    with pytest.raises(ConfigError, match=r"several pictures \(left.jpg, right.jpg\).*--image-key left.jpg"):
        prepared(path, tmp_path / "out")
    used, left = read(path, image_key="right")
    assert [data for data, _ in used.values()] == [encoded(50 + i) for i in range(3)]
    assert left.keys() == {f"{i}.left.jpg" for i in range(3)}


def test_compound_extensions_alone_make_a_sample(tmp_path):
    files = [(f"{i:03d}.{end}", data(i)) for i in range(3)
             for end, data in (("image.png", lambda i: encoded(i, kind="PNG")), ("mask.png", lambda _: mask()),
                               ("text.txt", lambda i: f"caption {i}".encode()))]  # fmt: skip
    used, left = read(tar_of(tmp_path / "t.tar", files))
    assert used == {f"{i:03d}": (encoded(i, kind="PNG"), [f"caption {i}"]) for i in range(3)}
    assert left.keys() == {f"{i:03d}.mask.png" for i in range(3)}


def test_img_and_cap_are_read(tmp_path):
    files = [(f"{i}.{end}", d) for i in range(2) for end, d in (("img", encoded(i)), ("cap", b"a caption"))]
    used, left = read(tar_of(tmp_path / "t.tar", files))
    assert used == {str(i): (encoded(i), ["a caption"]) for i in range(2)}
    assert not left


def test_samples_whose_files_lie_apart_are_an_error_that_says_so(tmp_path):
    files = [(f"{i}.jpg", encoded(i)) for i in range(3)] + [(f"{i}.txt", f"{i}".encode()) for i in range(3)]
    told = r"t.tar: the files of sample 0 do not lie beside each other .0.jpg and 0.txt.*--sort=name"
    path = tar_of(tmp_path / "t.tar", files)
    for reader in (
        lambda: prepared(path, tmp_path / "out"),
        lambda: read(path),
        lambda: FolderSource(path, 16, 0, WHITE),
    ):
        with pytest.raises(ConfigError, match=told):
            reader()


def test_names_that_differ_in_case_alone_are_two_samples_where_they_lie_apart(tmp_path):
    files = [
        (f"{stem}.{end}", d) for stem in ("A", "b", "a") for end, d in (("jpg", encoded(1)), ("txt", stem.encode()))
    ]
    used, left = read(tar_of(tmp_path / "t.tar", files))
    assert used == {stem: (encoded(1), [stem]) for stem in ("A", "b", "a")} and not left


@pytest.mark.parametrize(
    ("cut", "torn"),
    [
        (lambda ends: ends["1.txt"], None),  # behind a whole sample
        (lambda ends: ends["2.jpg"] - 700, "2"),  # within its picture
        (lambda ends: ends["2.jpg"], "2"),  # between its picture and its caption
        (lambda ends: ends["2.txt"] - 510, "2"),  # within its caption
    ],
)
@pytest.mark.parametrize("uncaptioned", [False, True])
def test_of_a_tar_that_is_cut_off_the_whole_samples_are_read_and_the_torn_one_is_told(tmp_path, cut, torn, uncaptioned):
    files = [(f"{i}.{end}", d) for i in range(4) for end, d in (("jpg", encoded(i)), ("txt", b"of %d" % i))]
    path = tar_of(tmp_path / "t.tar", files)
    with tarfile.open(path) as tar:
        ends = {m.name: m.offset_data + -(-m.size // 512) * 512 for m in tar}
    path.write_bytes(path.read_bytes()[: cut(ends)])
    used, left = read(path, uncaptioned=uncaptioned)
    assert used == {str(i): (encoded(i), [f"of {i}"]) for i in range(2)}
    if torn is not None:
        assert left.pop(torn) == "the tar stops within this sample"
    assert list(left) == [""] and "the file is damaged after" in left[""]  # one line for what is lost


def test_every_file_of_a_tar_is_counted(tmp_path):
    files = [
        *[("0.jpg", encoded(0)), ("0.txt", b"zero"), ("0.npy", b"x"), ("._0.jpg", b"mac"), ("readme", b"hello")],
        *[("1.jxr", b"x"), ("1.txt", b"one"), ("2.psd", b"x"), ("2.txt", b"two"), ("3.jpg", b""), ("3.txt", b"three")],
        *[("4.jpg", encoded(4)), ("4.txt", b"caf\x81")],
    ]
    prepared(tar_of(tmp_path / "t.tar", files), tmp_path / "out")
    dropped = {d["key"]: (d["kind"], d["reason"]) for d in lines_of(tmp_path / "out/dropped.jsonl")}
    assert dropped.keys() == {
        f"t.tar/{k}" for k in ("0.npy", "._0.jpg", "readme", "1", "1.jxr", "2", "2.psd", "3", "4")
    }
    assert dropped["t.tar/1"][1] == "the sample has no picture; it has jxr, txt"
    assert "psd-tools" in dropped["t.tar/2.psd"][1]
    assert dropped["t.tar/4"][0] == "unreadable caption"
    assert dropped["t.tar/._0.jpg"][0] == "hidden"


def test_a_tables_own_tar_is_read_and_not_both(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    tar_of(tmp_path / "s/00000.tar", [("0.jpg", encoded(0)), ("0.txt", b"zero")])
    pq.write_table(pa.table({"url": ["x"], "caption": ["zero"]}), tmp_path / "s/00000.parquet")
    used, _ = read(tmp_path / "s")
    assert len(used) == 1


def test_samples_keep_every_file_once():
    names = [
        f"{stem}{end}" for stem in ("a", "a.b", "c.1", "c.2", "d/x.y", ".e") for end in (".jpg", ".mask.png", ".txt")
    ]
    found = find_samples(names)
    assert sorted(n for s in found for _, _, n in s.members) == sorted(names)
    assert all(s.apart is None for s in found)
