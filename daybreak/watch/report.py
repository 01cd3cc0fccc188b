"""report.html: the page of a run frozen, written anew at every sampling moment. It needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from daybreak.files import write_whole
from daybreak.train.watch import AlarmRecord, MetricsRecord, SampleRecord, StepRecord
from daybreak.watch.page import Freezer

FILE = "report.html"


def write_report(run: Path) -> Path:
    """Writes RUN/report.html from what the run folder holds. Returns its path."""
    write_whole(run / FILE, Freezer(run).page())
    return run / FILE


class Reporter:
    """Keeps RUN/report.html up to date while a run trains; told of its events as the log is, after the log.

    No fault of the page ends a run of hours: `tell` is told once.
    """

    def __init__(self, run: Path, tell: Callable[[str], None]) -> None:
        self._path, self._tell = run / FILE, tell
        self._freezer = Freezer(run)
        self._told = False

    def on_samples(self, record: SampleRecord) -> None:  # noqa: ARG002 (the log has it)
        """Writes the page."""
        try:
            write_whole(self._path, self._freezer.page())
        except Exception as e:
            if not self._told:
                why = " ".join(str(e).split()) or type(e).__name__
                self._tell(f"{self._path} is not written ({why}); the run goes on")
            self._told = True

    def on_step(self, record: StepRecord) -> None:
        """Waits for the next samples."""

    def on_metrics(self, record: MetricsRecord) -> None:
        """Waits for the next samples."""

    def on_alarm(self, record: AlarmRecord) -> None:
        """Waits for the next samples."""

    def on_note(self, text: str) -> None:
        """Waits for the next samples."""
