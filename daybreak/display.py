"""The live display of a run in a terminal; plain lines where the output is no terminal."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

import daybreak
from daybreak.phases import Phase, shown_by
from daybreak.terminal import LINE_SECONDS, QUIET_SECONDS, REFRESHES, Curve, bar, chunk, duration, flow, phase_bar, told
from daybreak.train.watch import AlarmRecord, MetricsRecord, SampleRecord, StepRecord


class Display:
    """Shows how far a run is, its losses and its speed, and what it does between its steps and at its end.

    Use it as a context manager around all that takes its time.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(self, console=console, refresh_per_second=REFRESHES) if console.is_terminal else None
        self._within = ExitStack()
        self._record: StepRecord | None = None
        self._told_at = 0.0  # when the record came
        self._samples: SampleRecord | None = None
        self._phase: Phase | None = None
        self._ended: float | None = None
        self._last_line = 0.0
        self._loss: float | None = None
        self._curve = Curve()

    def __enter__(self) -> Display:
        self._within.enter_context(shown_by(self.on_phase))
        if self._live:
            self._within.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._phase, self._ended = None, time.time()
        self._within.__exit__(kind, error, trace)

    def on_alarm(self, record: AlarmRecord) -> None:
        """A note says it too."""

    def on_note(self, text: str) -> None:
        """Prints the note above the display."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=not self._live)

    def on_step(self, record: StepRecord) -> None:
        """Takes the figures, or prints a line now and then."""
        self._loss = record.loss if self._loss is None else 0.97 * self._loss + 0.03 * record.loss
        self._curve.add(self._loss)
        self._record, self._told_at = record, time.monotonic()
        if not self._live and (self._due() or record.progress >= 1):
            facts = "  ".join(f"{name} {value}" for name, value in self._facts(record))
            self._line(f"{record.progress:4.0%}  {facts}  {self._times(record)}")

    def on_samples(self, record: SampleRecord) -> None:
        """Remembers the figure; prints where the picture is."""
        self._samples = record
        if not self._live:
            followed = "" if record.followed is None else f", {record.followed:.0%} of the prompts followed"
            self._line(f"      samples: {record.path}{followed}")

    def on_metrics(self, record: MetricsRecord) -> None:
        """Prints the figures above the display."""
        figures = ", ".join(f"{name} {value:.4g}" for name, value in record.values.items())
        self.on_note(f"      after {record.images:,} pictures: {figures}")

    def on_phase(self, phase: Phase | None) -> None:
        """Shows a phase as a bar, or tells now and then how far it is."""
        self._phase = phase
        if not self._live and phase is not None and phase.seconds > QUIET_SECONDS and self._due():
            self._line(f"      {told(phase)}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._record is not None:
            record, width = self._record, options.max_width
            share = f"{record.progress:.0%}  {self._times(record)}"
            yield bar("training", record.progress, share)
            yield from flow([chunk("loss", f"{self._loss:.4f} {self._curve.drawn()}"), *self._chunks(record)], width)
        elif self._phase is None:
            yield bar("before the first step", None, f"{duration(time.time() - daybreak.STARTED)} elapsed")
        if (phase := self._phase) is not None:
            yield phase_bar(phase)

    def _due(self) -> bool:
        return time.monotonic() - self._last_line > LINE_SECONDS

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _times(self, record: StepRecord) -> str:
        """Since the command was given, and until everything is done."""
        elapsed = f"{duration((self._ended or time.time()) - daybreak.STARTED)} elapsed"
        if record.seconds_to_end is None or self._ended is not None:
            return elapsed
        left = max(0.0, record.seconds_to_end - (time.monotonic() - self._told_at))
        if self._phase is not None and (rest := self._phase.seconds_left()) is not None:
            left = max(left, rest)
        return f"{elapsed}  {'at least ' if self._samples is None else ''}{duration(left)} left"

    def _chunks(self, record: StepRecord) -> list[Text]:
        return [chunk(name, value) for name, value in self._facts(record) if name != "loss"]

    def _facts(self, record: StepRecord) -> list[tuple[str, str]]:
        facts = [("step", f"{record.step:,}"), ("images/s", f"{record.images_per_second:.3g}")]
        if record.waiting >= 0.01:
            facts.append(("waiting for data", f"{record.waiting:.0%}"))
        facts.append(("loss", f"{self._loss:.4f}"))
        if len(record.terms) > 1:
            facts += [(name, f"{value:.4f}") for name, value in record.terms.items()]
        if record.cost is not None:
            facts.append(("USD", f"{record.cost:,.2f} of {record.cost_forecast or 0:,.2f}"))
        if self._samples is not None and self._live:
            facts.append(("samples", str(Path(*Path(self._samples.path).parts[-2:]))))
        if self._samples is not None and self._samples.followed is not None:
            facts.append(("prompts followed", f"{self._samples.followed:.0%}"))
        return facts
