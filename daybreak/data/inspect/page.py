"""The report as one self-contained page, and as a table in the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daybreak.data.inspect.findings import Report
from daybreak.html import page

Rows = list[tuple[str, int]]


def write_page(report: Report, path: Path) -> None:
    """Writes the page; nothing in it is fetched from elsewhere."""
    look = report.look
    kind = "prepared shards" if look.is_shards else f"a source, as daybreak prepare --size {look.size} would take it"
    page.write_page(
        path,
        "data.html",
        title=look.place,
        about=kind,
        totals=_summary(report),
        findings=report.findings,
        samples=look.samples,
        charts=_charts(report) if look.rows else [],
        dropped=look.dropped,
    )


def _summary(report: Report) -> list[tuple[str, str]]:
    rows = report.look.rows
    words = report.facts.words
    levels = Counter(f.level for f in report.findings)
    figures = [
        ("usable pictures", f"{len(rows):,}"),
        ("left out", f"{len(report.look.dropped):,}"),
        ("captions", f"{report.facts.n:,}"),
        ("words a caption (median)", f"{np.median(words):.0f}"),
        ("different words", f"{report.facts.vocabulary:,}"),
    ]
    if rows:
        figures.append(("prepared size", f"{sum(r.bytes for r in rows) / 1e6:,.1f} MB"))
    return [*figures, ("errors", str(levels["error"])), ("warnings", str(levels["warning"]))]


def _charts(report: Report) -> list[tuple[str, Rows]]:
    """Counts, as bars: a title and its rows each."""
    rows = report.look.rows
    shapes = Counter(r.bucket for r in rows)
    by_ratio = sorted(shapes, key=lambda b: int(b.split("x")[0]) / int(b.split("x")[1]))
    sides = np.array([min(r.width, r.height) for r in rows])
    charts = [
        ("shapes (bucket, px)", [(b, shapes[b]) for b in by_ratio]),
        ("shorter side of the originals, px", _histogram(sides)),
        ("words a caption", _histogram(report.facts.words)),
    ]
    if report.tokens is not None:
        charts.append(("tokens a caption", _histogram(report.tokens)))
    return charts


def _histogram(values: np.ndarray) -> Rows:
    """Counts in at most 12 ranges of whole numbers."""
    low, high = int(values.min()), int(values.max())
    width = -(-(high - low + 1) // 12)
    counts = Counter(((values.astype(int) - low) // width).tolist())
    starts = [(k, low + k * width) for k in range((high - low) // width + 1)]
    names = {k: str(start) if width == 1 else f"{start} – {start + width - 1}" for k, start in starts}
    return [(name, counts[k]) for k, name in names.items()]


def print_report(report: Report, console: Console) -> None:
    """The figures and the findings, in short."""
    figures = Table(box=None, padding=(0, 2), show_header=False)
    for name, value in _summary(report):
        figures.add_row(name, value)
    console.print(figures)
    styles = {"error": "bold red", "warning": "yellow", "note": "cyan"}
    findings = Table(box=None, padding=(0, 2), show_header=False)
    findings.add_column(no_wrap=True)
    findings.add_column(ratio=1)
    for f in report.findings:
        style = styles[f.level]
        findings.add_row(f"[{style}]{f.level}[/{style}]", f"[bold]{escape(f.what)}[/bold]")
        findings.add_row("", escape(f.why))
        findings.add_row("", f"→ {escape(f.do)}")
        for example in f.examples[:2]:
            findings.add_row("", f"[dim]{escape(example[:160])}[/dim]")
    console.print(findings)
