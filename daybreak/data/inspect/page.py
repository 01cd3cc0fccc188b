"""The report as one self-contained page, and as a table in the terminal."""

from __future__ import annotations

import base64
import html
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daybreak import __version__
from daybreak.data.inspect.findings import Finding, Report

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #777; --line: #ddd; --paper: #fff; --mark: #2a6fdb;
  --error: #c62828; --warning: #b26a00; --note: #2a6fdb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #999; --line: #444; --paper: #181818; --mark: #7ab0ff;
    --error: #ff7b72; --warning: #e3a340; --note: #7ab0ff; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; overflow-wrap: anywhere; } .soft { color: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: 2rem; margin: 1.5rem 0; }
.figures b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.finding { border-left: 4px solid; padding: .1rem 0 .1rem 1rem; margin: 1rem 0; } .finding p { margin: .2rem 0; }
.error { border-color: var(--error); } .warning { border-color: var(--warning); } .note { border-color: var(--note); }
.level { font-size: .75rem; text-transform: uppercase; letter-spacing: .06em; font-weight: 600; }
.error .level { color: var(--error); } .warning .level { color: var(--warning); } .note .level { color: var(--note); }
details { color: var(--soft); font-size: .9rem; } li { overflow-wrap: anywhere; }
.charts { display: flex; flex-wrap: wrap; gap: 2rem; } .charts h3 { margin: 0 0 .4rem; font-size: 1rem; }
table { border-collapse: collapse; font-size: .9rem; } td { padding: .1rem .7rem .1rem 0; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { background: var(--mark); height: .8rem; border-radius: 3px; min-width: 1px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }
.grid figure { margin: 0; } .grid img { width: 100%; height: 150px; object-fit: contain; border-radius: 4px;
  background: color-mix(in srgb, var(--line) 40%, transparent); }
figcaption { font-size: .8rem; overflow: hidden; display: -webkit-box; -webkit-line-clamp: 4;
  -webkit-box-orient: vertical; }
"""


def write_page(report: Report, path: Path) -> None:
    """Writes the page; nothing in it is fetched from elsewhere."""
    look = report.look
    title = html.escape(look.place)
    kind = "prepared shards" if look.is_shards else f"a source, as daybreak prepare --size {look.size} would take it"
    parts = [f"<h1>{title}</h1><p class=soft>{kind}; daybreak {__version__}</p>", _figures(report)]
    parts.append("<h2>What was found</h2>")
    parts += [_finding(f) for f in report.findings] or ["<p>Nothing that would stand in the way.</p>"]
    if look.samples:
        parts += ["<h2>Pictures, evenly from the whole</h2><div class=grid>", *map(_sample, look.samples), "</div>"]
    if look.rows:
        parts += ["<h2>What there is</h2><div class=charts>", *_charts(report), "</div>"]
    if look.dropped:
        rows = "".join(f"<li>{html.escape(key)}: {html.escape(reason)}</li>" for key, _, reason in look.dropped[:500])
        more = f"<p>{len(look.dropped) - 500:,} more</p>" if len(look.dropped) > 500 else ""
        parts.append(
            f"<h2>Left out</h2><details><summary>{len(look.dropped):,} rows</summary><ul>{rows}</ul>{more}</details>"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style>{''.join(parts)}</html>",
        encoding="utf-8",
    )


def _figures(report: Report) -> str:
    return (
        "<div class=figures>"
        + "".join(f"<div><b>{value}</b><span class=soft>{name}</span></div>" for name, value in _summary(report))
        + "</div>"
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


def _finding(f: Finding) -> str:
    examples = ""
    if f.examples:
        items = "".join(f"<li>{html.escape(e)}</li>" for e in f.examples)
        examples = f"<details><summary>examples</summary><ul>{items}</ul></details>"
    return (
        f"<div class='finding {f.level}'><span class=level>{f.level}</span><p><b>{html.escape(f.what)}</b></p>"
        f"<p>{html.escape(f.why)}</p><p>→ {html.escape(f.do)}</p>{examples}</div>"
    )


def _sample(sample: tuple[bytes, str, str]) -> str:
    data, key, caption = sample
    return (
        f"<figure><img alt='{html.escape(key, quote=True)}' title='{html.escape(key, quote=True)}' "
        f"src='data:image/jpeg;base64,{base64.b64encode(data).decode()}'>"
        f"<figcaption>{html.escape(caption) or '<i>no caption</i>'}</figcaption></figure>"
    )


def _charts(report: Report) -> list[str]:
    rows = report.look.rows
    shapes = Counter(r.bucket for r in rows)
    by_ratio = sorted(shapes, key=lambda b: int(b.split("x")[0]) / int(b.split("x")[1]))
    sides = np.array([min(r.width, r.height) for r in rows])
    charts = [
        _bars("shapes (bucket, px)", [(b, shapes[b]) for b in by_ratio]),
        _histogram("shorter side of the originals, px", sides),
        _histogram("words a caption", report.facts.words),
    ]
    if report.tokens is not None:
        charts.append(_histogram("tokens a caption", report.tokens))
    return charts


def _histogram(title: str, values: np.ndarray) -> str:
    """Counts in at most 12 ranges of whole numbers."""
    low, high = int(values.min()), int(values.max())
    width = -(-(high - low + 1) // 12)
    counts = Counter(((values.astype(int) - low) // width).tolist())
    starts = [(k, low + k * width) for k in range((high - low) // width + 1)]
    names = {k: str(start) if width == 1 else f"{start} – {start + width - 1}" for k, start in starts}
    return _bars(title, [(name, counts[k]) for k, name in names.items()])


def _bars(title: str, rows: list[tuple[str, int]]) -> str:
    most = max(n for _, n in rows)
    lines = "".join(
        f"<tr><td>{html.escape(name)}<td><div class=bar style='width:{160 * n / most:.0f}px'></div>"
        f"<td class=number>{n:,}</tr>"
        for name, n in rows
    )
    return f"<div><h3>{title}</h3><table>{lines}</table></div>"


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
