"""Pages escape what they are given, miss nothing in silence, and draw their curves where the values are."""

import json

import pytest
from jinja2 import UndefinedError

from daybreak.html.chart import MOST_POINTS, chart, smooth
from daybreak.html.page import as_script, data_uri, write_page

COMPARED = {
    "title": "<b>cats</b>", "about": "lora & 3 steps", "names": ["a 'gain'"], "rows": [], "unlike": ["<i>loss</i>"],
    "tasks": [], "pictures": [],
}  # fmt: skip


def test_text_is_escaped_and_markup_of_the_parts_is_not(tmp_path):
    charts = [chart("loss <over>", [("<run>", [0, 2], [4, 1])], "steps")]
    page = write_page(tmp_path / "new" / "page.html", "comparison.html", **COMPARED, charts=charts).read_text()
    for escaped in ("&lt;b&gt;cats", "lora &amp; 3", "&#39;gain&#39;", "&lt;i&gt;loss", "loss &lt;over", "&lt;run&gt;"):
        assert escaped in page
    assert page.count("<h1>") == page.count("<svg") == 1 and "prefers-color-scheme: dark" in page
    assert "&lt;svg" not in page and "&lt;td" not in page and "2 steps" in page


def test_a_value_that_a_template_needs_is_not_left_out(tmp_path):
    with pytest.raises(UndefinedError, match="charts"):
        write_page(tmp_path / "page.html", "comparison.html", **COMPARED)
    assert not (tmp_path / "page.html").exists()


def test_no_text_breaks_out_of_a_script():
    text = "</script><script>alert(1)</script><!-- \u2028 é"
    script = as_script({"prompt": text})
    assert "<" not in script and "\u2028" not in script and json.loads(script) == {"prompt": text}


def test_a_curve_lies_where_its_values_are():
    found = chart("loss", [("a", [0, 5, 10], [4, 2, 0]), ("b", [5], [-1])])
    assert (found.end, found.low, found.high) == (10, -1, 4)
    assert found.curves == [("a", "M0.0000,0.0000 L0.5000,0.4000 L1.0000,0.8000"), ("b", "M0.5000,1.0000")]
    (_, flat), (_, long) = chart("loss", [("flat", [0], [0]), ("long", range(1000), [0] * 1000)]).curves
    assert flat == "M0.0000,1.0000" and MOST_POINTS <= long.count("L") + 1 < 2 * MOST_POINTS


def test_smoothing_passes_over_what_is_not_finite():
    assert smooth([1.0, float("nan"), 1.0, float("inf")]) == [1, 1, 1, 1]
    assert smooth([0.0] * 20 + [1.0], keep=0.75)[-1] == 0.25


def test_pictures_say_what_they_are():
    assert data_uri(b"\x89PNG\r\n").startswith("data:image/png;base64,iVBOR")
    assert data_uri(b"\xff\xd8\xff") == "data:image/jpeg;base64,/9j/"
