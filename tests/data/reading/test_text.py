"""Encodings and line breaks: what stood in the file is what is read, or the file is refused with the reason."""

import pytest

from daybreak.data.reading.text import TextError, captions_in, decode_text

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
