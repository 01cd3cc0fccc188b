"""report.html of a blind comparison: one self-contained page for a reader who was not there."""

from __future__ import annotations

import base64
import html
import io
import math
from collections import defaultdict
from pathlib import Path

from PIL import Image

from daybreak import __version__
from daybreak.vote.results import QuestionResults, VoterSummary, outcome
from daybreak.vote.study import QUESTIONS, Study, picture_path
from daybreak.vote.votes import Vote

THUMBNAIL_PX = 200
SHOWN_PAIRS = 6
"""Pairs shown of every question, those on which the votes were clearest."""

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #777; --line: #ddd; --paper: #fff; --mark: #2a6fdb;
  --other: #d98e2b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #999; --line: #444; --paper: #181818; --mark: #7ab0ff; --other: #e0a458; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
  margin: 2rem auto; padding: 0 1rem 3rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } .soft { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .3rem 1.1rem .3rem 0; text-align: left; vertical-align: middle; }
th { font-weight: 500; color: var(--soft); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { display: flex; width: 16rem; height: .9rem; border-radius: 3px; overflow: hidden; background: var(--line); }
.won { background: var(--mark); } .lost { background: var(--other); }
svg { width: 16rem; height: 1.4rem; display: block; } svg line { stroke: var(--line); }
svg line.interval { stroke: var(--mark); stroke-width: 2; } svg circle { fill: var(--mark); }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 1.5rem; }
.pairs figure { margin: 0; } .pairs div { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem;
  font-size: .85rem; }
.pairs img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px; display: block; }
.pairs b { font-weight: 600; } figcaption { margin-bottom: .4rem; overflow-wrap: anywhere; }
"""


def write_report(
    folder: Path, study: Study, votes: list[Vote], results: list[QuestionResults], voters: list[VoterSummary]
) -> Path:
    """Writes DIR/report.html; returns its path."""
    names = [html.escape(n) for n in study.contestants]
    cast = [v.cast_at for v in votes]
    active = sum(v.votes > 0 for v in voters)
    parts = [
        f"<h1>{' against '.join(names)}</h1>",
        f"<p class=soft>Blind comparison by {active} voter{'s' if active != 1 else ''}: {len(votes)} votes on "
        f"{len(study.prompts)} prompts, {_days(min(cast), max(cast))}. Voters saw two pictures at a time, in "
        f"random order and on random sides, without names. Seed {study.seed}; daybreak {__version__}.</p>",
    ]
    for r in results:
        if r.votes:
            parts += _question(folder, study, r, [v for v in votes if v.question == r.question], names)
    parts += ["<h2>Voters</h2>", _voters(voters), _METHOD]
    path = folder / "report.html"
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{' against '.join(names)}</title><style>{_STYLE}</style>{''.join(parts)}</html>",
        encoding="utf-8",
    )
    return path


_METHOD = """<h2>How to read this</h2>
<p class=soft>A tie counts as half a win. Intervals are 95 %: Wilson's for win rates, with the number of votes reduced
where votes on the same prompt resemble each other. Bradley–Terry scores are log-odds with mean 0: of two contestants
whose scores differ by s, the better one wins with probability 1 / (1 + e<sup>-s</sup>), so 0.7 apart is two wins in
three. Kappa is agreement beyond chance: 1 is perfect, 0 is none. A voter whose share of lefts is far from a half may
not have looked.</p>"""


def _days(first: str, last: str) -> str:
    """The dates of two ISO times."""
    return first[:10] if first[:10] == last[:10] else f"{first[:10]} to {last[:10]}"


def _question(folder: Path, study: Study, r: QuestionResults, votes: list[Vote], names: list[str]) -> list[str]:
    rows = [
        "<tr><th><th class=number>won<th class=number>tied<th class=number>lost<th><th class=number>win rate<th>95 %"
    ]
    for d in r.duels:
        n = d.rate.n
        if n:
            bar = f"<div class=won style='width:{d.wins / n:.1%}'></div><div style='width:{d.ties / n:.1%}'></div>"
            bar += f"<div class=lost style='width:{d.losses / n:.1%}'></div>"
            rows.append(
                f"<tr><td>{names[d.first]} against {names[d.second]}<td class=number>{d.wins}<td class=number>{d.ties}"
                f"<td class=number>{d.losses}<td><div class=bar>{bar}</div><td class=number>{d.rate.rate:.1%}"
                f"<td class=number>{d.rate.low:.1%} – {d.rate.high:.1%}"
            )
    s, a = r.scores, r.agreement
    reach = max(1.0, float(max(abs(s.low).max(), abs(s.high).max())))
    ranks = ["<tr><th><th class=number>win rate<th>95 %<th class=number>Bradley–Terry<th>95 %<th>"]
    for k in sorted(range(len(names)), key=lambda k: -s.score[k]):
        t = r.totals[k]
        if t.n:
            ranks.append(
                f"<tr><td>{names[k]}<td class=number>{t.rate:.1%}<td class=number>{t.low:.1%} – {t.high:.1%}"
                f"<td class=number>{s.score[k]:+.2f}<td class=number>{s.low[k]:+.2f} to {s.high[k]:+.2f}"
                f"<td>{_interval(s.score[k], s.low[k], s.high[k], reach)}"
            )
    parts = [
        f"<h2>{html.escape(QUESTIONS[r.question])}</h2>",
        f"<div class=wide><table>{''.join(ranks)}</table></div><br>",
        f"<div class=wide><table>{''.join(rows)}</table></div>",
    ]
    if a.things:
        kappa = "undefined" if math.isnan(a.fleiss) else f"{a.fleiss:.2f}"
        pairwise = "; ".join(
            f"voters {x} and {y}: {'undefined' if math.isnan(c) else f'{c:.2f}'}" for x, y, _, c in a.cohen
        )
        parts.append(
            f"<p>Voters agree on {a.observed:.0%} of the {a.things} pairs that several judged; Fleiss' kappa {kappa}. "
            f"<span class=soft>Cohen's kappa: {pairwise}.</span></p>"
        )
    return parts + _clearest(folder, study, votes, names)


def _interval(score: float, low: float, high: float, reach: float) -> str:
    """A score and its interval on an axis from -reach to reach."""

    def x(value: float) -> float:
        return 128 + 122 * value / reach

    return (
        f"<svg viewBox='0 0 256 22' aria-hidden=true><line x1=0 y1=11 x2=256 y2=11 /><line x1=128 y1=3 x2=128 y2=19 />"
        f"<line class=interval x1={x(low):.1f} y1=11 x2={x(high):.1f} y2=11 />"
        f"<circle cx={x(score):.1f} cy=11 r=5 /></svg>"
    )


def _clearest(folder: Path, study: Study, votes: list[Vote], names: list[str]) -> list[str]:
    """The pairs on which most voters were of one mind, in turn won by each contestant."""
    margins: dict[tuple[int, int, int], float] = defaultdict(float)
    for v in votes:
        first, second = sorted((v.pair.left, v.pair.right))
        margins[v.pair.item, first, second] += 2 * outcome(v, first) - 1
    won: dict[int, list[tuple[float, int, int, int]]] = defaultdict(list)
    for (item, first, second), margin in sorted(margins.items(), key=lambda m: (-abs(m[1]), m[0])):
        if margin:
            winner, loser = (first, second) if margin > 0 else (second, first)
            won[winner].append((abs(margin), item, winner, loser))
    turns = [w[i] for i in range(SHOWN_PAIRS) for w in (won[k] for k in sorted(won)) if i < len(w)]
    figures = []
    for margin, item, winner, loser in turns[:SHOWN_PAIRS]:
        pictures = "".join(
            f"<span><img alt='' src='{_thumbnail(picture_path(folder, item, k))}'>{tag}</span>"
            for k, tag in ((winner, f"<b>{names[winner]}</b> by {margin:g}"), (loser, names[loser]))
        )
        figures.append(
            f"<figure><figcaption>{html.escape(study.prompts[item])}</figcaption><div>{pictures}</div></figure>"
        )
    if not figures:
        return []
    note = "<p class=soft>Won on the left, lost on the right; the contestants in turn, each with its clearest wins.</p>"
    return ["<h3>Where voters were clearest</h3>", note, f"<div class=pairs>{''.join(figures)}</div>"]


def _thumbnail(path: Path) -> str:
    with Image.open(path) as image:
        small = image.convert("RGB")
    if max(small.size) < THUMBNAIL_PX:
        scale = THUMBNAIL_PX // max(small.size)
        small = small.resize((small.width * scale, small.height * scale), Image.Resampling.NEAREST)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    data = io.BytesIO()
    small.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _voters(voters: list[VoterSummary]) -> str:
    rows = [
        "<tr><th><th class=number>votes<th class=number>ties<th class=number>left, of the rest<th>95 %<th>median time"
    ]
    for v in voters:
        cells = f"<tr><td>voter {v.voter}<td class=number>{v.votes} of {v.expected}"
        if v.votes:
            left = "–" if not v.left.n else f"{v.left.rate:.0%}<td class=number>{v.left.low:.0%} – {v.left.high:.0%}"
            time = "–" if math.isnan(v.median_seconds) else f"{v.median_seconds:.1f} s"
            cells += f"<td class=number>{v.ties:.0%}<td class=number>{left}" + ("" if v.left.n else "<td>")
            cells += f"<td class=number>{time}"
        rows.append(cells)
    return f"<div class=wide><table>{''.join(rows)}</table></div>"
