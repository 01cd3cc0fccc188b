"""The pieces that reports are made of: a page, tables, bars, charts, pictures; all inside one HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #777; --line: #ddd; --paper: #fff; --mark: #2a6fdb;
  --warn: #9a5b00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #999; --line: #444; --paper: #181818; --mark: #7ab0ff; --warn: #e0a040; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } .soft { color: var(--soft); } img { max-width: 100%; height: auto; border-radius: 4px; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: left; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { background: var(--line); width: 16rem; height: .8rem; border-radius: 3px; }
.bar div { background: var(--mark); height: 100%; border-radius: 3px; }
.charts { display: flex; flex-wrap: wrap; gap: 1.5rem; } svg { width: 340px; max-width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg path.frame { stroke: var(--line); fill: none; }
svg path.curve { stroke: var(--mark); fill: none; stroke-width: 1.5; }
pre { overflow-x: auto; border: 1px solid var(--line); padding: 1rem; border-radius: 4px; font-size: 13px; }
ul.warnings { color: var(--warn); } td.best { font-weight: 700; } td.meaning { color: var(--soft); font-size: 14px; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); } th { font-weight: 600; vertical-align: bottom; }
.scroll { overflow-x: auto; } svg path.c0 { stroke: var(--mark); } svg path.c1 { stroke: #d9822b; }
svg path.c2 { stroke: #2a9d5c; } svg path.c3 { stroke: #b0479a; } svg path.c4 { stroke: #8a8a2a; }
"""
MOST_POINTS = 300
"""Of a curve."""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole HTML document."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>{''.join(parts)}</html>"
    )


def image(path: Path, caption: str = "") -> str:
    """A PNG, inside the page; nothing where the file is missing."""
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f"<figure><img alt='{html.escape(path.stem)}' src='data:image/png;base64,{data}'>{below}</figure>"


def bars(rows: Sequence[tuple[str, float]]) -> str:
    """Shares in [0, 1] as named bars."""
    lines = [
        f"<tr><td>{html.escape(name)}<td><div class=bar><div style='width:{share:.1%}'></div></div>"
        f"<td class=number>{share:.1%}</tr>"
        for name, share in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values."""
    return "<table>" + "".join(f"<tr><td>{html.escape(k)}<td>{html.escape(v)}</tr>" for k, v in rows) + "</table>"


def warnings(lines: Sequence[str]) -> str:
    """What a reader must know before believing a figure."""
    return f"<ul class=warnings>{''.join(f'<li>{html.escape(w)}' for w in lines)}</ul>" if lines else ""


def chart(title: str, curves: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> str:
    """Line chart over minutes of training as inline SVG; curves: (name, minutes, values)."""
    left, top, width, height = 46, 22, 284, 150
    everything = [v for _, _, y in curves for v in y]
    low, high = min(0.0, *everything), max(everything)
    high = high if high > low else low + 1
    end = max(v for _, x, _ in curves for v in x) or 1
    lines = ""
    for number, (name, x, y) in enumerate(curves):
        stride = max(1, len(x) // MOST_POINTS)
        points = " L".join(
            f"{left + width * a / end:.1f},{top + height * (1 - (b - low) / (high - low)):.1f}"
            for a, b in zip(x[::stride], y[::stride], strict=True)
        )
        lines += f"<path class='curve c{number % 5}' d='M{points}'><title>{html.escape(name)}</title></path>"
    return (
        f"<svg viewBox='0 0 340 200' role=img aria-label='{html.escape(title)}'>"
        f"<text x={left} y=14>{html.escape(title)}</text>"
        f"<path class=frame d='M{left},{top} V{top + height} H{left + width}'/>"
        f"<text x=4 y={top + 6}>{high:.3g}</text><text x=4 y={top + height}>{low:.3g}</text>"
        f"<text x={left + width} y={top + height + 16} text-anchor=end>{end:.1f} min</text>{lines}</svg>"
    )


def smooth(values: Sequence[float], keep: float = 0.98) -> list[float]:
    """Exponential moving average, started at the mean of the first few; values that are not finite are passed over."""
    finite = [v for v in values if v == v and abs(v) != float("inf")]
    average = sum(finite[:20]) / max(1, len(finite[:20]))
    result = []
    for v in values:
        if v == v and abs(v) != float("inf"):
            average = keep * average + (1 - keep) * v
        result.append(average)
    return result
