"""RUN/log.jsonl as curves and events, read once and from then on only where it grew. Needs no torch."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SMOOTH_STEPS = 25
"""Of the smoothed loss: an exponential average that reaches about so far back."""
LOSS, SMOOTHED = "loss", "loss, smoothed"
FOLLOWED = "prompts followed"
PLAIN = ("gradient_norm", "lr_factor", "images_per_second", "waiting", "cost")
"""Of a step, besides its loss and what stands in groups of their own."""


@dataclass
class Curve:
    """Values and the places at which they were taken, as numbers of `Log.places`."""

    places: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


class Log:
    """What a log holds. version: changes when it was begun anew, or rewound by a run that goes on.

    places: step, pictures seen and training seconds of every measurement, in the order of the log. events: all lines
    that are no steps, oldest first. last: the newest step. curves: by name; a group's name stands before a slash.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0
        self._file: tuple[int, int] | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._read_bytes = 0
        self.steps, self.images, self.seconds = array("q"), array("q"), array("d")
        self.curves: dict[str, Curve] = {}
        self.events: list[dict[str, Any]] = []
        self.last: dict[str, Any] | None = None
        self._smooth, self._smoothed = 0.0, 0

    def read(self) -> None:
        """Takes note of what was written since the last call. Half a line at the end is left for the next one."""
        try:
            about = self.path.stat()
            file = (about.st_dev, about.st_ino)
            if (self._file is not None and file != self._file) or about.st_size < self._read_bytes:
                self.version += 1
                self._begin_anew()
            self._file = file
            if about.st_size == self._read_bytes:
                return
            with self.path.open("rb") as opened:
                opened.seek(self._read_bytes)
                new = opened.read()
        except OSError:  # not there yet, or away for a moment
            return
        end = new.rfind(b"\n") + 1
        self._read_bytes += end
        for event in _whole_lines(new[:end]):
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # a line of another version counts as none
            if kind == "step":
                self._take_step(event)
                return
            if kind in ("samples", "metrics", "probe"):
                place = self._place(event)
                if kind == "samples" and event.get("followed") is not None:
                    self._add(FOLLOWED, place, event["followed"])
                for name, value in event.get("values", {}).items():
                    self._add(f"{kind}/{name}", place, value)
            self.events.append(event)

    def _take_step(self, event: dict[str, Any]) -> None:
        loss = float(event["loss"])
        place = self._place(event)
        self.last = event
        self._add(LOSS, place, loss)
        if math.isfinite(loss):
            keep = 1 - 2 / (SMOOTH_STEPS + 1)
            self._smooth = keep * self._smooth + (1 - keep) * loss
            self._smoothed += 1
            self._add(SMOOTHED, place, self._smooth / (1 - keep**self._smoothed))
        terms = event.get("terms", {})
        for name, value in terms.items() if len(terms) > 1 else ():
            self._add(f"terms/{name}", place, value)
        for name in PLAIN:
            self._add(name, place, event.get(name))
        for name, value in event.get("learning_rates", {}).items():
            self._add(f"learning_rates/{name}", place, value)
        for name, value in event.get("measured", {}).items():
            self._add(name if "/" in name else f"measured/{name}", place, value)

    def _place(self, event: dict[str, Any]) -> int:
        step, images, seconds = int(event["step"]), int(event["images"]), float(event["seconds"])
        self.steps.append(step)
        self.images.append(images)
        self.seconds.append(seconds)
        return len(self.steps) - 1

    def _add(self, name: str, place: int, value: float | None) -> None:
        if value is None:
            return
        curve = self.curves.setdefault(name, Curve())
        curve.places.append(place)
        curve.values.append(float(value))

    def since(self, place: int, most: int) -> dict[str, dict[str, list[float | None]]]:
        """Every curve from a place on, each of about `most` points, among them its extremes: {name: {step, ...}}."""
        where = {"step": self.steps, "images": self.images, "seconds": self.seconds}
        arrays = {name: np.frombuffer(a, dtype=a.typecode) for name, a in where.items()} if self.steps else {}
        found = {}
        for name, curve in self.curves.items():
            places = np.frombuffer(curve.places, dtype="q")
            first = int(np.searchsorted(places, place))
            if first == len(places):
                continue
            places, values = places[first:], np.frombuffer(curve.values, dtype="d")[first:]
            kept = keeping_extremes(values, most)
            columns = {axis: _plain(numbers[places[kept]]) for axis, numbers in arrays.items()}
            found[name] = columns | {"value": _plain(values[kept])}
        return found


def keeping_extremes(values: np.ndarray, most: int) -> np.ndarray:
    """Numbers, ascending, of about `most` of the values [N], or of all where there are no more.

    Of equal stretches the least and the largest each, and the first and the last value: a peak of one step stays.
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    stretches = most // 2
    length = -(-n // stretches)
    padded = np.full(stretches * length, np.nan)
    padded[:n] = values
    rows = padded.reshape(stretches, length)
    rows = rows[np.isfinite(rows).any(axis=1)]
    starts = np.flatnonzero(np.isfinite(padded.reshape(stretches, length)).any(axis=1)) * length
    finite = np.where(np.isfinite(rows), rows, np.nan)
    least, largest = np.nanargmin(finite, axis=1) + starts, np.nanargmax(finite, axis=1) + starts
    return np.unique(np.concatenate([[0, n - 1], least, largest]))


def _plain(numbers: np.ndarray) -> list[float | None]:
    """As JSON has them, six digits each; what is not finite is null."""
    if numbers.dtype.kind == "i":
        return numbers.tolist()
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in numbers.tolist()]


def _whole_lines(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        with suppress(ValueError):  # half a line of a run that was killed
            event = json.loads(line)
            if isinstance(event, dict):
                yield event
