"""A run as the page sees it: what is new since it last asked, in plain values. Needs no torch."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from daybreak import config as configs
from daybreak.config import ConfigError
from daybreak.evaluate.report_evaluation import figures_of
from daybreak.model_folder import FINETUNED_FILE
from daybreak.run_folder import JUDGED, REPORT, read_score, read_shown, shown_folder
from daybreak.run_notes import FILE as NOTES
from daybreak.run_notes import read_notes
from daybreak.run_requests import trains
from daybreak.watch.charts import charts_of
from daybreak.watch.log import FOLLOWED, SMOOTHED, Log
from daybreak.watch.scores import scores_of
from daybreak.watch.state import modified, state_of

OWN_FINETUNED_FILE = "finetune_own.yaml"
"""Beside the config.yaml of a run that fine-tuned a run of ours."""
MOST_POINTS = 600
"""Of a curve at once."""
ALARMS = ("bad_step", "advice", "alarm")


class WatchedRun:
    """A run's folder. `tell` is called by any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = Log(folder / "log.jsonl")
        self._lock = threading.Lock()

    def tell(self, cursor: str = "") -> dict[str, Any]:
        """What is new since the answer whose `cursor` is given; everything where that is of no use any more.

        reset: the page forgets what it had. curves and events: new ones alone. facts: where the run stands now. still:
        what seldom changes, and only where it did.
        """
        with self._lock:
            self._log.read()
            stamp = self._stamp()
            version, place, event, before = _cursor(cursor)
            reset = version != self._log.version
            if reset:
                place, event, before = 0, 0, ""
            return {
                "cursor": f"{self._log.version}.{len(self._log.steps)}.{len(self._log.events)}.{stamp}",
                "reset": reset,
                "curves": self._log.since(place, MOST_POINTS),
                "charts": charts_of(self._log.curves),
                "events": [told for e in self._log.events[event:] if (told := self._event(e)) is not None],
                "facts": self._facts(),
            } | ({} if stamp == before else {"still": self._still()})

    def inside(self, folder: str) -> dict[str, Any] | None:
        """What shown.json of a moment's `folder`, samples/NAME/, says; None where the run has no such samples."""
        with self._lock:
            names = {f"samples/{Path(e['path']).stem}/" for e in self._log.events if e.get("event") == "samples"}
        return read_shown(self.folder / folder) if folder in names else None

    def _stamp(self) -> str:
        """Changes with any file that `_still` reads."""
        return "-".join(str(int(1000 * modified(self.folder / name))) for name in STILL)

    def _event(self, event: dict[str, Any]) -> dict[str, Any] | None:
        kind = event.get("event")
        if kind == "samples":
            return self._samples(event)
        if kind in ALARMS:
            text = event.get("reason") or event.get("text", "")
            name = event.get("alarm") or event.get("name") or "a step that was not applied"
            return {"event": "alarm", "step": event.get("step"), "name": name, "text": text}
        return event if kind in ("begin", "request") else None

    def _samples(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """The pictures of a moment; None where they are gone, or will be drawn again by a run that goes on."""
        grid = self.folder / "samples" / Path(event["path"]).name
        shown = read_shown(shown_folder(grid))
        if not shown and not grid.is_file():
            return None
        base = f"samples/{grid.stem}/"
        said = {k: event.get(k) for k in ("step", "images", "seconds", "followed")}
        said |= {"event": "samples", "folder": base if shown else None}
        said["sheet"] = None if shown else f"samples/{grid.name}"
        said["pictures"] = [p | {"file": base + p["file"]} for p in shown.get("prompt", [])]
        said["inside"] = sorted({"words", "noise", "guidance"} & set(shown))
        asked = {p: f"samples/{Path(f).name}" for p, f in event.get("asked", {}).items()}
        return said | {"asked": [{"prompt": p, "file": f} for p, f in asked.items()]}

    def _facts(self) -> dict[str, Any]:
        log, last = self._log, self._log.last
        facts: dict[str, Any] = {"state": self._state(), "now": time.time(), "reachable": trains(self.folder)}
        with suppress(KeyError, TypeError):
            begun = next((e for e in log.events if e["event"] == "begin"), None)
            if begun is not None:
                written = max(modified(self.folder / name) for name in ("log.jsonl", "score.json", REPORT))
                facts["wall_seconds"] = max(0.0, written - begun["time"])
        if last is None:
            return facts
        facts |= {k: last.get(k) for k in ("step", "images", "seconds", "progress", "images_per_second", "waiting",
                                           "seconds_left", "seconds_to_end", "cost", "cost_forecast")}  # fmt: skip
        if facts["state"] == "judging" and facts["seconds_to_end"] is not None:  # the log is silent meanwhile
            facts["seconds_to_end"] = max(0.0, facts["seconds_to_end"] - (time.time() - modified(log.path)))
        facts["loss"] = log.curves[SMOOTHED].values[-1] if SMOOTHED in log.curves else None
        facts |= {
            name.removeprefix("measured/"): curve.values[-1]
            for name, curve in log.curves.items()
            if name in ("measured/host_memory_gib", "measured/memory_gib", FOLLOWED)
        }
        return facts

    def _state(self) -> str:
        """See `state_of`."""
        events = self._log.events
        begun = any(e.get("event") == "begin" for e in events)
        return state_of(self.folder, self._log.last, begun)

    def _still(self) -> dict[str, Any]:
        """Settings, score, what a fine-tuning run says of itself, the pictures of the evaluation, notes on the data."""
        score = _json(read_score, self.folder)
        settings, trouble = settings_of(self.folder)
        judged = read_shown(self.folder / JUDGED)
        figures = {}
        with suppress(KeyError, TypeError, ValueError):  # a score of another version: its tasks are shown all the same
            figures = _figures(self.folder, score)
        return {
            "settings": settings,
            "trouble": trouble,
            "finetuned": _finetuned(self.folder),
            "scores": scores_of(score),
            "figures": figures,
            "judged": [p | {"file": f"{JUDGED}/{p['file']}"} for p in judged.get("prompt", [])],
            "failures": [p | {"file": f"{JUDGED}/{p['file']}"} for p in judged.get("failure", [])],
            "sheet": "grid.png" if not judged and (self.folder / "grid.png").is_file() else None,
            "skipped": _lines(self.folder / "skipped.jsonl"),
            "notes": _notes(self.folder),
        }


STILL = ("config.yaml", FINETUNED_FILE, OWN_FINETUNED_FILE, "score.json", REPORT, "skipped.jsonl", NOTES)
"""What `_still` reads."""


def settings_of(folder: Path) -> tuple[dict[str, str], str | None]:
    """All settings of a run by their dotted names, as text; and what is wrong with them for this version, or None.

    Of a fine-tuning run of diffusers' models: those of the fine-tuning. A file that is no YAML gives no settings.
    """
    # What fine-tuning was told stands after what the run it began from was told.
    files = [f for f in ("config.yaml", OWN_FINETUNED_FILE, FINETUNED_FILE) if (folder / f).is_file()]
    flat: dict[str, str] = {}
    trouble = None
    for file in files:
        try:
            raw = yaml.load((folder / file).read_text(encoding="utf-8"), _LOADER)
            flat |= dict(_flat("" if file == "config.yaml" else "finetune.", raw))
            if file == "config.yaml":
                configs.check(configs.load(folder / file))
        except ConfigError as e:
            trouble = f"of another version: {e}"
        except (OSError, ValueError, yaml.YAMLError) as e:
            trouble = f"{file} cannot be read: {' '.join(str(e).split())[:200]}"
    return flat, trouble


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _flat(before: str, value: Any) -> Iterator[tuple[str, str]]:
    """(dotted name, text) of what a YAML file holds; `before` ends in a dot but for that of a value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{before}{key}." if isinstance(inner, dict) and inner else f"{before}{key}", inner)
    elif before:
        yield before, "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _cursor(text: str) -> tuple[int, int, int, str]:
    try:
        version, place, event, stamp = text.split(".", 3)
        return int(version), int(place), int(event), stamp
    except ValueError:
        return -1, 0, 0, ""


def _json(read: Any, path: Path) -> dict[str, Any]:
    """What a reader finds; nothing in a file that is being written."""
    try:
        return dict(read(path))
    except (OSError, ValueError):
        return {}


def _finetuned(folder: Path) -> dict[str, Any]:
    found = _json(lambda path: json.loads(path.read_text(encoding="utf-8")), folder / REPORT)
    kept = ("verdict", "rows", "notes", "method", "base", "steps", "sheets", "general", "contact", "heading", "columns",
            "general_heading")  # fmt: skip
    return {k: found[k] for k in kept if k in found}


def _figures(folder: Path, score: dict[str, Any]) -> dict[str, Any]:
    """What was measured beside scenes, in the form of report_evaluation.py, with plain values and paths in the run."""
    found = figures_of(folder, score)
    if not found:
        return {}
    measures = [
        {k: v for k, v in m.items() if k != "metric"}
        | {"title": m["metric"].title, "better": m["metric"].better, "meaning": m["metric"].meaning}
        | {"images": [{"sheet": f.relative_to(folder).as_posix(), "caption": said} for f, said in m["images"]]}
        for m in found["measures"]
    ]
    pictures = found["pictures"]
    return found | {"measures": measures, "pictures": {"sheet": pictures.name} if pictures.is_file() else None}


def _notes(folder: Path) -> dict[str, Any]:
    try:
        return asdict(read_notes(folder))
    except ConfigError as e:
        return {"text": "", "favourite": False, "trouble": str(e)}


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0
