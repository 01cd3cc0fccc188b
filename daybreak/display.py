"""The live display of a run in a terminal; plain lines where the output is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from daybreak.train.watch import AlarmRecord, MetricsRecord, SampleRecord, StepRecord

LINE_SECONDS = 15.0
"""Without a terminal: time between lines."""


class Display:
    """Shows step, speed, loss terms, time left and prompts followed. Use it as a context manager around a run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(), console=console
        )
        self._task = self._bar.add_task("training", total=1.0)
        self._live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
        self._samples: SampleRecord | None = None
        self._last_line = 0.0
        self._loss: float | None = None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def on_alarm(self, record: AlarmRecord) -> None:
        """A note says it too."""

    def on_note(self, text: str) -> None:
        """Prints the note above the display."""
        self._console.print(text, highlight=False, markup=False)

    def on_step(self, record: StepRecord) -> None:
        """Refreshes the table, or prints a line now and then."""
        self._loss = record.loss if self._loss is None else 0.97 * self._loss + 0.03 * record.loss
        if self._live:
            self._bar.update(self._task, completed=record.progress)
            self._live.update(Group(self._bar, self._table(record)))
        elif time.monotonic() - self._last_line > LINE_SECONDS or record.progress >= 1:
            self._last_line = time.monotonic()
            line = "  ".join(f"{name} {value}" for name, value in self._facts(record))
            self._console.print(f"{record.progress:4.0%}  {line}", highlight=False, soft_wrap=True)

    def on_samples(self, record: SampleRecord) -> None:
        """Remembers the figure; prints where the picture is."""
        self._samples = record
        if not self._live:
            followed = "" if record.followed is None else f", {record.followed:.0%} of the prompts followed"
            self._console.print(f"      samples: {record.path}{followed}", highlight=False, soft_wrap=True)

    def on_metrics(self, record: MetricsRecord) -> None:
        """Prints the figures above the display."""
        figures = ", ".join(f"{name} {value:.4g}" for name, value in record.values.items())
        self.on_note(f"      after {record.images:,} pictures: {figures}")

    def _facts(self, record: StepRecord) -> list[tuple[str, str]]:
        facts = [
            ("step", f"{record.step:,}"),
            ("images/s", f"{record.images_per_second:.0f}"),
            ("waiting for data", f"{record.waiting:.0%}"),
            ("loss", f"{self._loss:.4f}"),
        ]
        if len(record.terms) > 1:
            facts += [(name, f"{value:.4f}") for name, value in record.terms.items()]
        if record.seconds_left is not None:
            facts.append(("left", duration(record.seconds_left)))
        if record.cost is not None:
            facts.append(("USD", f"{record.cost:,.2f} of {record.cost_forecast or 0:,.2f}"))
        if self._samples is not None and self._samples.followed is not None:
            facts.append(("prompts followed", f"{self._samples.followed:.0%}"))
        return facts

    def _table(self, record: StepRecord) -> Table:
        table = Table.grid(padding=(0, 3))
        facts = self._facts(record)
        table.add_row(*(f"[dim]{name}[/dim] [bold]{value}[/bold]" for name, value in facts))
        if self._samples is not None:
            latest = Table.grid()
            latest.add_row(table)
            latest.add_row(f"[dim]samples[/dim] {self._samples.path}")
            return latest
        return table


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0:42, 7:05, 1:02:03."""
    total = round(seconds)
    hours, minutes, rest = total // 3600, total % 3600 // 60, total % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_bar(console: Console) -> Progress:
    """A bar with a note behind it."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # elsewhere nothing would be left of it but an empty line
    )
