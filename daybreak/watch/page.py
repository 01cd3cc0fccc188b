"""The page, which is one file: live, it asks a server; frozen, as report.html, it holds a run and its pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from daybreak.html.page import data_uri, fill
from daybreak.run_folder import read_shown
from daybreak.watch.run import WatchedRun

SCRIPTS = ("elements.js", "words.js", "charts.js", "strips.js", "parts.js", "controls.js", "run.js", "compare.js",
           "runs.js", "main.js")  # fmt: skip
"""In the order in which they stand in the page."""
MOST_MOMENTS = 12
"""Of a frozen page: the first, the last, and evenly between."""
MOST_PX = 192
"""A frozen page holds larger pictures at this side."""
QUALITY = 85
PICTURES = {"file": False, "other": False, "sheet": True}
"""What a picture's path is called in what the page is told, and whether it is a sheet of many pictures."""


def live_page(controls: bool) -> str:
    """The page that asks for its data. controls: whether it offers what runs can be asked for."""
    return fill("watch.html", title="daybreak", frozen=None, controls=controls, scripts=SCRIPTS)


class Freezer:
    """Makes report.html of a run, again and again: what it has read once, of the log and of pictures, it keeps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run = WatchedRun(folder)
        self._pictures: dict[tuple[str, float], str] = {}

    def page(self) -> str:
        """The page as the run is now."""
        told = self._run.tell()
        told["events"] = list(_fewer(told["events"]))
        last = next((e for e in reversed(told["events"]) if e["event"] == "samples"), None)
        inside = self._inside(last) if last is not None else {}
        kept = {}
        for path, whole in dict.fromkeys(_files([told, inside])):
            if (uri := self._uri(path, whole)) is not None:
                kept[path] = uri
        frozen = {"name": self._folder.resolve().name, "told": told, "inside": inside, "files": kept}
        return fill("watch.html", title=frozen["name"], frozen=frozen, controls=False, scripts=SCRIPTS)

    def _inside(self, event: dict[str, Any]) -> dict[str, Any]:
        """What goes on inside at the last moment, with its files' paths in the run."""
        if event["folder"] is None:
            return {}
        return with_paths(event["folder"], read_shown(self._folder / event["folder"]))

    def _uri(self, name: str, whole: bool) -> str | None:
        path = self._folder / name
        try:
            key = (name, path.stat().st_mtime)
            if key not in self._pictures:
                self._pictures[key] = _small(path, whole)
        except (OSError, ValueError):  # it is not there, or no picture
            return None
        return self._pictures[key]


def with_paths(folder: str, shown: dict[str, Any]) -> dict[str, Any]:
    """What shown.json says of the inside of a model, its files named by their path in the run; folder ends in /."""
    guidance = shown.get("guidance")
    return {
        "words": [w | {"file": folder + w["file"]} for w in shown.get("words", [])],
        "noise": [
            row | {"pictures": [p | {"file": folder + p["file"]} for p in row["pictures"]]}
            for row in shown.get("noise", [])
        ],
        "guidance": guidance
        and guidance
        | {"pairs": [p | {"file": folder + p["file"], "other": folder + p["other"]} for p in guidance["pairs"]]},
    }


def _fewer(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of the moments at which samples were drawn MOST_MOMENTS; all other events."""
    moments = [i for i, e in enumerate(events) if e["event"] == "samples"]
    n = len(moments)
    kept = {moments[round(k * (n - 1) / (MOST_MOMENTS - 1))] for k in range(MOST_MOMENTS)} if n > MOST_MOMENTS else None
    for i, event in enumerate(events):
        if event["event"] != "samples" or kept is None or i in kept:
            yield event


def _files(value: Any) -> Iterator[tuple[str, bool]]:
    """Paths of pictures anywhere in what a page is told, and whether each is a sheet of many, to be left as it is."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in PICTURES and isinstance(inner, str):
                yield inner, PICTURES[name]
            else:
                yield from _files(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _files(inner)


def _small(path: Path, whole: bool) -> str:
    """A picture as a data address; a large one is made smaller, unless it is to be left `whole`."""
    raw = path.read_bytes()
    with Image.open(io.BytesIO(raw)) as picture:
        if whole or max(picture.size) <= MOST_PX:
            return data_uri(raw)
        small = picture.convert("RGB")
        small.thumbnail((MOST_PX, MOST_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return data_uri(file.getvalue())
