"""Bars, curves and times in a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from daybreak.phases import Phase, shown_by

LINE_SECONDS = 15.0
"""Without a terminal: time between lines."""
QUIET_SECONDS = 3.0
"""Without a terminal: a phase that takes longer is told of."""
REFRESHES = 4
"""A second, in a terminal."""
POINTS = 32
"""Of a sparkline."""
LEVELS = "▁▂▃▄▅▆▇█"


class Curve:
    """A curve over a whole run in a few letters. What was long ago is kept more coarsely, so that it never grows."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._each, self._waiting = 1, list[float]()

    def add(self, value: float) -> None:
        """The next value."""
        if not math.isfinite(value):
            return
        self._waiting.append(value)
        if len(self._waiting) < self._each:
            return
        self._values.append(sum(self._waiting) / len(self._waiting))
        self._waiting.clear()
        if len(self._values) == 2 * POINTS:
            self._values = [(a + b) / 2 for a, b in zip(self._values[::2], self._values[1::2], strict=True)]
            self._each *= 2

    def drawn(self) -> str:
        """From the least (▁) to the greatest value (█)."""
        values = self._values[-2 * POINTS :]
        if len(values) > POINTS:  # pairs, of which the last may be one value
            values = [sum(values[i : i + 2]) / len(values[i : i + 2]) for i in range(0, len(values), 2)]
        least, greatest = (min(values), max(values)) if values else (0.0, 0.0)
        span = (greatest - least) or 1.0
        return "".join(LEVELS[round((v - least) / span * (len(LEVELS) - 1))] for v in values)


def bar(name: str, share: float | None, figures: str) -> Table:
    """A line: a name, a bar as wide as there is room for, and figures. share: None where it is not known."""
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    full = ProgressBar(total=1.0 if share is not None else None, completed=share or 0.0, pulse=share is None)
    line.add_row(Text(name, style="bold"), full, Text(figures))
    return line


def phase_bar(phase: Phase) -> Table:
    """How far a phase is."""
    share = None if not phase.total else min(1.0, phase.done / phase.total)
    return bar(phase.name, share, _figures(phase))


def told(phase: Phase) -> str:
    """How far a phase is, in words."""
    return f"{phase.name}: {_figures(phase)}"


def _figures(phase: Phase) -> str:
    counts = f"{int(phase.done):,} of {phase.total:,}  " if phase.total else ""
    left = phase.seconds_left()
    return f"{counts}{duration(phase.seconds)}" + (f"  {duration(left)} left" if left is not None else "")


def chunk(name: str, value: str) -> Text:
    """A figure and its name, which stay on one line."""
    return Text.assemble((name, "dim"), " ", (value, "bold"))


def flow(chunks: list[Text], width: int, gap: int = 3) -> list[Text]:
    """Chunks one after the other, in lines of at most `width` columns; none is broken."""
    lines: list[Text] = []
    for part in chunks:
        if lines and lines[-1].cell_len + gap + part.cell_len <= width:
            lines[-1].append(" " * gap).append_text(part)
        else:
            lines.append(part.copy())
    return lines


@contextmanager
def showing_phases(console: Console) -> Generator[None]:
    """Shows the phases of what is done within as bars that vanish; lines where the output is no terminal."""
    live: Live | None = None
    last = 0.0

    def show(phase: Phase | None) -> None:
        nonlocal live, last
        if not console.is_terminal:
            if phase is not None and phase.seconds > QUIET_SECONDS and time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                console.print(told(phase), highlight=False, markup=False, soft_wrap=True)
        elif phase is None:
            if live is not None:
                live.stop()
            live = None
        elif live is None:
            live = Live(phase_bar(phase), console=console, refresh_per_second=REFRESHES, transient=True,
                        get_renderable=lambda: phase_bar(current[0]))  # fmt: skip
            current[0] = phase
            live.start(refresh=True)
        else:
            current[0] = phase

    current: list[Phase] = [Phase("")]
    with shown_by(show):
        try:
            yield
        finally:
            if live is not None:
                live.stop()


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
