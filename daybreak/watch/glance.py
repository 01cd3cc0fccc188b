"""A run at a glance, for a list of many: its newest step, a loss curve of a few points, its newest pictures.

Nothing here reads a whole log: of a hundred runs of 10,000 steps that is 700 MB.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from daybreak.config import ConfigError
from daybreak.model_folder import FINETUNED_FILE
from daybreak.run_folder import SHOWN, read_score
from daybreak.run_notes import read_notes
from daybreak.watch.state import state_of

POINTS = 40
"""Of the small curve."""
LINE_BYTES = 8192
"""A line of a log is shorter."""
PICTURES = 4


class Glance:
    """A run's folder; keeps what it read until the log grows."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._log = folder, folder / "log.jsonl"
        self._read: tuple[int, int] = (-1, -1)
        self._told: dict[str, Any] = {}

    def tell(self) -> dict[str, Any]:
        """Plain values; `curve`: (pictures seen, loss) at places evenly through the log."""
        try:
            about = self._log.stat()
            size, when = about.st_size, about.st_mtime
            if (about.st_ino, size) != self._read:
                self._told = self._look(size)
                self._read = about.st_ino, size
        except OSError:  # it begins
            when = 0.0
        score = _score(self._folder)
        last = self._told if self._told.get("step") is not None else None
        state = state_of(self._folder, last, self._told.get("begun") is not None)
        return self._told | {
            "recipe": self._recipe(),
            "modified": when,
            "score": score,
            "state": state,
            **self._notes(),
        }

    def _look(self, size: int) -> dict[str, Any]:
        with self._log.open("rb") as file:
            begun = _first(_lines(file, 0, LINE_BYTES), "begin")
            last = _first(_lines(file, max(0, size - 4 * LINE_BYTES), 4 * LINE_BYTES)[::-1], "step")
            places = [_first(_lines(file, i * size // POINTS, LINE_BYTES), "step") for i in range(POINTS)]
            curve = [(s["images"], s["loss"]) for s in places if "images" in s and "loss" in s]
        if last and (not curve or curve[-1][0] != last.get("images")):
            curve.append((last.get("images"), last.get("loss")))
        kept = ("step", "images", "seconds", "progress", "loss", "images_per_second", "seconds_left", "seconds_to_end")
        told: dict[str, Any] = {k: last.get(k) for k in kept}
        return told | {"curve": curve, "begun": begun.get("time"), "pictures": self._pictures()}

    def _pictures(self) -> list[str]:
        """The first prompts of the newest samples."""
        with suppress(OSError):
            names = [e.name for e in os.scandir(self._folder / "samples") if e.name.startswith("step-")]
            for name in sorted((n for n in names if "." not in n), reverse=True):
                if (self._folder / "samples" / name / SHOWN).is_file():
                    files = sorted(e.name for e in os.scandir(self._folder / "samples" / name))
                    return [f"samples/{name}/{f}" for f in files if f.startswith("prompt-")][:PICTURES]
        return []

    def _notes(self) -> dict[str, Any]:
        try:
            notes = read_notes(self._folder)
        except ConfigError:  # written by hand, and wrongly: the run's own page says so
            return {}
        return {"note": notes.text, "favourite": notes.favourite}

    def _recipe(self) -> str:
        for file, pattern in ((FINETUNED_FILE, r"^base: *(\S+)"), ("config.yaml", r"^recipe: *(\S+)")):
            with suppress(OSError, UnicodeDecodeError):
                if found := re.search(pattern, (self._folder / file).read_text(encoding="utf-8"), re.MULTILINE):
                    return f"fine-tuned {Path(found[1]).name}" if file == FINETUNED_FILE else found[1]
        return ""


def _score(folder: Path) -> float | None:
    try:
        return read_score(folder).get("overall")
    except (OSError, ValueError):
        return None


def _lines(file: IO[bytes], start: int, length: int) -> list[bytes]:
    """The whole lines between two places of a log."""
    file.seek(start)
    return file.read(length).split(b"\n")[(1 if start else 0) : -1]


def _first(lines: list[bytes], kind: str) -> dict[str, Any]:
    """The first event of a kind; empty where there is none. No other line is parsed."""
    mark = f'"event": "{kind}"'.encode()
    for line in lines:
        if line.startswith(b"{" + mark):
            with suppress(ValueError):
                return dict(json.loads(line))
    return {}
