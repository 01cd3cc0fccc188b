"""CSV and JSONL: a faulty line costs itself, and nothing is cut."""

import json

import pytest

from daybreak.config import ConfigError
from daybreak.data.reading.tables import read_text_table

GOOD = "".join(f"{n}.png,plain caption of {n}\n" for n in "def")


def table(tmp_path, text, name="metadata.csv", encoding="utf-8"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_text_table(str(tmp_path / name))


def good(found):
    return {row["file_name"]: row["text"] for _, row in found.rows}


PLAIN = {f"{n}.png": f"plain caption of {n}" for n in "def"}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a.png,a red cat, sitting on a mat", "has 3 fields for 2 columns"),
        ('b.png,"large 24" monitor, black"', "a quote inside a quoted field"),
        ('b.png,"large" monitor', "a quote inside a quoted field"),
        ('c.png,"unclosed quote', "a quote that is not closed"),
        ('"c.png,unclosed', "a quote that is not closed"),
    ],
)
@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_faulty_line_costs_itself_and_is_named(tmp_path, line, fault, place):
    lines = GOOD.splitlines(keepends=True)
    lines.insert(place, line + "\n")
    found = table(tmp_path, "file_name,text\n" + "".join(lines))
    assert good(found) == PLAIN
    ((number, why),) = found.faults
    assert number == place + 2
    assert fault in why


def test_an_open_quote_that_a_later_one_closes_swallows_nothing(tmp_path):
    found = table(tmp_path, 'file_name,text\nc.png,"unclosed\nd.png,plain\ne.png,more"\nf.png,"quoted, f"\n')
    assert good(found) == {"d.png": "plain", "e.png": 'more"', "f.png": "quoted, f"}
    assert [number for number, _ in found.faults] == [2]
    reverse = table(tmp_path, 'text,file_name\n"unclosed,c.png\nplain,d.png\nmore",e.png\nlast,f.png\n')
    assert {row["file_name"] for _, row in reverse.rows} == {"d.png", "e.png", "f.png"}


def test_quoted_captions_are_kept_whole(tmp_path):
    found = table(tmp_path, 'file_name,text\r\na.png,"first line\r\nsecond ""quoted"" line, end"\r\n' + GOOD)
    assert good(found)["a.png"] == 'first line\r\nsecond "quoted" line, end'
    assert not found.faults
    long = "word " * 60_000
    assert good(table(tmp_path, f'file_name,text\na.png,"{long}"\n'))["a.png"] == long


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_read(tmp_path, separator):
    text = "file_name,text\n".replace(",", separator) + GOOD.replace(",", separator) + f"a.png{separator}one, two\n"
    assert good(table(tmp_path, text)) == PLAIN | {"a.png": "one, two"}
    assert good(table(tmp_path, f"sep={separator}\n{text}")) == PLAIN | {"a.png": "one, two"}


def test_short_rows_empty_lines_and_trailing_separators(tmp_path):
    found = table(tmp_path, "file_name,text\n\na.png\n \nb.png,b,\n")
    assert good(found) == {"a.png": None, "b.png": "b"}
    assert not found.faults


def test_utf_16_tables_are_read(tmp_path):
    found = table(tmp_path, "file_name\ttext\na.png\tnaïve\n", encoding="utf-16")
    assert good(found) == {"a.png": "naïve"}
    assert found.notes == ["text read as UTF-16"]


def test_a_broken_line_of_jsonl_costs_that_line(tmp_path):
    rows = [json.dumps({"file_name": f"{i}.png", "text": "a\u2028b"}, ensure_ascii=False) for i in range(3)]
    found = table(tmp_path, "\n".join([rows[0], '{"file_name": ', rows[1], "[1]", "", rows[2]]), "metadata.jsonl")
    assert len(found.rows) == 3
    assert [number for number, _ in found.faults] == [2, 4]
    assert found.rows[0][1]["text"] == "a\u2028b"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '[\n{"file_name": "a.png"}]', "line 1 is not JSON.*one object a line"),
        ("a.jsonl", "", "there is no row in it"),
        ("a.csv", "file_name,text\n", "there is no row in it"),
        ("a.csv", "file_name,text,text\na,b,c\n", "two columns are called 'text'"),
    ],
)
def test_a_useless_table_says_so(tmp_path, name, text, message):
    with pytest.raises(ConfigError, match=message):
        table(tmp_path, text, name)
