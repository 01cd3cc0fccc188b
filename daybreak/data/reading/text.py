"""From bytes to captions: the one place that says which encodings are read and what a line break means.

A byte order mark is obeyed (UTF-8, UTF-16, UTF-32). Without one text is UTF-8; where it is none, UTF-16 if every other
byte is zero, and else Windows-1252, with a note. What is none of these, and text with traces of a conversion that went
wrong before (U+FFFD, NUL), is refused: what stood there cannot be told.
"""

from __future__ import annotations

import codecs
import re
from typing import Any

from daybreak.data.reading.settings import Lines

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BREAKS = re.compile("\r\n|[\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029]")


class TextError(ValueError):
    """The text cannot be used; the message says why."""


def decode_text(data: bytes) -> tuple[str, str | None]:
    """(text, what was found out about its encoding where it is not UTF-8). Raises TextError."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            try:
                text = data[len(mark) :].decode(name)
            except UnicodeDecodeError as e:
                raise TextError(f"its mark says {name.upper()}, and it is none: {e.reason} at byte {e.start}") from None
            return text, None if name == "utf-8" else f"text read as {name[:6].upper()}"
    if (wide := _wide(data)) is not None:
        return data.decode(wide), f"text without a mark read as {wide[:6].upper()}"
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as e:
        if 0 in data:
            raise TextError(f"neither UTF-8 nor UTF-16 text: {e.reason} at byte {e.start}") from None
        try:
            return data.decode("cp1252"), "text read as Windows-1252, since it is not UTF-8"
        except UnicodeDecodeError:
            raise TextError(f"not UTF-8 text: {e.reason} at byte {e.start}; save it as UTF-8") from None


def _wide(data: bytes) -> str | None:
    """UTF-16 without a mark: Latin letters have a zero in every other byte."""
    if len(data) < 4 or len(data) % 2:
        return None
    for name, zeros, letters in (("utf-16-le", data[1::2], data[::2]), ("utf-16-be", data[::2], data[1::2])):
        if zeros.count(0) > 0.6 * len(zeros) and letters.count(0) == 0:
            try:
                data.decode(name)
            except UnicodeDecodeError:
                return None
            return name
    return None


def captions_in(value: Any, lines: Lines) -> list[str]:
    """The captions of a value from a file or table: text, bytes, or a list of them; none where it is anything else.

    Line breaks of any system become one line feed; `lines` says what they mean. Raises TextError.
    """
    if isinstance(value, (list, tuple)):
        return [caption for one in value for caption in captions_in(one, lines)]
    if isinstance(value, bytes):
        value = decode_text(value)[0]
    if not isinstance(value, str):
        return []
    text = _BREAKS.sub("\n", value.replace("\ufeff", "")).strip()
    if "\ufffd" in text:
        raise TextError("its caption holds U+FFFD, the mark of letters that an earlier conversion has lost")
    if "\0" in text:
        raise TextError("its caption holds NUL characters: the file is no plain text, or in another encoding")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise TextError("its caption holds half of a character (a lone surrogate)")
    if lines == "whole":
        return [text] if text else []
    each = [line.strip() for line in text.split("\n") if line.strip()]
    return each if lines == "lines" else each[:1]
