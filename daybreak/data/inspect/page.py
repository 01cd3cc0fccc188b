"""The report as one self-contained page, and as a table in the terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from daybreak.data.inspect.findings import Report
from daybreak.html import page
from daybreak.tables import Fact, print_facts

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
        totals=[(f.name, f.text) for f in _summary(report) if f.text],
        findings=report.findings,
        samples=look.samples,
        charts=_charts(report) if look.rows else [],
        dropped=look.dropped,
    )


def _summary(report: Report) -> list[Fact]:
    rows, facts = report.look.rows, report.facts
    levels = Counter(f.level for f in report.findings)
    median, size = float(np.median(facts.words)) if facts.n else None, sum(r.bytes + r.copy_bytes for r in rows)
    copies = sum(r.copy_bytes for r in rows)
    return [
        _count("usable pictures", len(rows)),
        _count("left out", len(report.look.dropped)),
        _count("captions", facts.n),
        Fact("words a caption (median)", median, "none" if median is None else f"{median:.0f}"),
        _count("different words", facts.vocabulary),
        Fact("prepared size", size, f"{size / 1e6:,.1f} MB" if rows else ""),
        *([Fact("of it smaller copies", copies, f"{copies / 1e6:,.1f} MB")] if copies else []),
        _count("errors", levels["error"]),
        _count("warnings", levels["warning"]),
    ]


def _count(name: str, value: int) -> Fact:
    return Fact(name, value, f"{value:,}")


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
    print_facts(console, [(f.name, f.text) for f in _summary(report)])
    styles = {"error": "bold red", "warning": "yellow", "note": "cyan"}
    for f in report.findings:
        lines = [f"[bold]{escape(f.what)}[/bold]", escape(f.why), f"→ {escape(f.do)}"]
        lines += [f"[dim]{escape(example[:160])}[/dim]" for example in f.examples[:2]]
        style = styles[f.level]
        print_facts(console, [(f"[{style}]{f.level}[/{style}]", "\n".join(lines))], markup=True, least=len("warning"))


def as_json(report: Report) -> dict[str, Any]:
    """The same figures and findings, with all examples."""
    findings = list(map(asdict, report.findings))
    return {"place": report.look.place, "size": report.look.size, "figures": _summary(report), "findings": findings}
