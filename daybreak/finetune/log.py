"""What train/watch.py writes of a run, and what only fine-tuning has: probes and advice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.finetune import settings as settings_file
from daybreak.finetune.settings import FinetuneSettings
from daybreak.train.trackers import open_trackers
from daybreak.train.watch import LogFiles, Watcher

TRACKER = "--tracker "
"""How a tracker is asked for."""


class FinetuneLog(LogFiles):
    """Also appends probes to RUN/probes.jsonl, one line each. ConfigError where a tracker cannot be opened."""

    def __init__(
        self, run: Path, settings: FinetuneSettings, resumed_from: int | None, watchers: list[Watcher] | None = None
    ) -> None:
        def note(text: str) -> None:
            for w in watchers or []:
                w.on_note(text)

        trackers = open_trackers(settings.trackers, TRACKER, run, resumed_from is not None, note)
        super().__init__(run, resumed_from, note, trackers)
        self.on_settings(settings_file.plain(settings))
        self._probes = run / "probes.jsonl"
        if self._probes.exists():
            lines = self._probes.read_text().splitlines() if resumed_from is not None else []
            kept = [line for line in lines if json.loads(line)["step"] <= (resumed_from or 0)]
            self._probes.write_text("".join(line + "\n" for line in kept))

    def on_probes(self, step: int, losses: dict[str, float], start: dict[str, float], drift: float | None) -> None:
        """Losses on fixed noise, and their change against the base's; how far general pictures moved."""
        moved = {} if drift is None else {"drift": drift}
        with self._probes.open("a") as file:
            file.write(json.dumps({"step": step, **losses, **moved}) + "\n")
        changes = {f"{name}_change": loss / start[name] - 1 for name, loss in losses.items()}
        self._boards.scalars({f"probe/{k}": v for k, v in {**losses, **changes, **moved}.items()}, step)

    def on_advice(self, alarm: str, text: str, step: int) -> None:
        """One line, and the text."""
        self._line({"event": "advice", "step": step, "alarm": alarm, "text": text})
        self._boards.text(f"advice/{alarm}", text, step)


def log_report(
    run: Path, settings: FinetuneSettings, step: int, figures: Mapping[str, float], note: Callable[[str], None]
) -> None:
    """Adds what the report found after `step`, the end of the run, to its log and boards."""
    try:
        log = FinetuneLog(run, settings, step)
    except ConfigError as e:  # the figures are in the report already
        note(f"{e}; the figures are in {run / 'report'}")
        log = FinetuneLog(run, replace(settings, trackers=()), step)
    log.on_score(figures, {}, step)
    log.close()
