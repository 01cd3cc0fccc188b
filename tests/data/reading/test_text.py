"""Encodings and line breaks: what stood in the file is what is read, or the file is refused with the reason."""

import pytest
from making import encoded, prepared

from daybreak.data.folder import FolderSource
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.text import TextError, captions_in, decode_text
from daybreak.finetune.pictures import look_again, open_pictures
from daybreak.finetune.shapes import Shapes

WHITE = (255, 255, 255)
TEXT = "the painter’s café, a naïve sketch"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_what_editors_write_is_read(encoding):
    text, note = decode_text(TEXT.encode(encoding))
    assert text == TEXT
    assert (note is None) == encoding.startswith("utf-8")


def test_a_mark_is_obeyed_in_either_order_and_is_no_part_of_the_text():
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe\0\0", "utf-32-le")):
        assert decode_text(mark + TEXT.encode(encoding))[0] == TEXT
    assert captions_in("\ufeffa cat\ufeff", "whole") == ["a cat"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"caf\x81\xe9", "not UTF-8 text"),
        (b"\xff\xfea", "its mark says UTF-16-LE, and it is none"),
        (b"a\0\xff\0\0", "neither UTF-8 nor UTF-16"),
    ],
)
def test_what_cannot_be_told_is_refused(data, message):
    with pytest.raises(TextError, match=message):
        decode_text(data)


@pytest.mark.parametrize("text", ["a caf\ufffd", "a\0cat", "half \ud83d of it"])
def test_traces_of_a_failed_conversion_do_not_reach_training(text):
    with pytest.raises(TextError):
        captions_in([text], "whole")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x85"])
def test_line_breaks_have_one_meaning(end):
    text = f"  a cat{end}on a mat {end}{end}"
    assert captions_in(text, "whole") == ["a cat\non a mat"]
    assert captions_in(text, "lines") == ["a cat", "on a mat"]
    assert captions_in(text, "first") == ["a cat"]


def test_lists_give_all_their_texts_and_nothing_gives_none():
    assert captions_in(["a", None, " ", b"b", ["c"]], "whole") == ["a", "b", "c"]
    for value in (None, "", " \n", 3, [], {}):
        assert captions_in(value, "whole") == []


@pytest.mark.parametrize("lines", ["whole", "lines", "first"])
def test_line_breaks_mean_the_same_to_train_and_finetune_in_folders_and_in_shards(tmp_path, lines):
    (tmp_path / "set").mkdir()
    for i in range(2):
        (tmp_path / f"set/{i}.jpg").write_bytes(encoded(i))
        (tmp_path / f"set/{i}.txt").write_text(f"one {i}\ntwo {i}")
    prepared(tmp_path / "set", tmp_path / "shards", encoding="png")
    expected = {
        "whole": [(f"one {i}\ntwo {i}",) for i in range(2)],
        "lines": [(f"one {i}", f"two {i}") for i in range(2)],
        "first": [(f"one {i}",) for i in range(2)],
    }[lines]
    assert FolderSource(tmp_path / "set", 16, 0, WHITE, lines=lines).captions == expected
    reading = Reading(lines=lines)
    for place in ("set", "shards"):
        found = open_pictures(str(tmp_path / place), Shapes.squares(16), WHITE, reading=reading)
        assert [tuple(text for text, _ in of) for of in found.choices] == expected
        assert found.captions == [texts[0] for texts in expected]
        assert (found.checks == look_again(str(tmp_path / place), None, reading)).all()
