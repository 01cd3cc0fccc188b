"""The evaluation's part of a report: figures with intervals and warnings, tasks, pictures, conditions, licences."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from daybreak.evaluate import html_parts as parts_of
from daybreak.evaluate.html_parts import image
from daybreak.evaluate.measures import METRICS, Measure, measures_of
from daybreak.evaluate.report_scenes import scenes_score


def write_evaluation_report(folder: Path, name: str, score: dict[str, Any]) -> Path:
    """Writes FOLDER/report.html on a model or folder of pictures that is no run of ours. Returns its path."""
    parts = [f"<h1>{html.escape(name)}</h1>"]
    if "overall" in score:
        parts += ["<h2>Does it follow its prompts?</h2>", scenes_score(score), image(folder / "grid.png")]
        parts.append(image(folder / "failures.png", "Where it fails"))
    parts += evaluation_sections(folder, score)
    path = folder / "report.html"
    path.write_text(parts_of.page(name, parts), encoding="utf-8")
    return path


def evaluation_sections(folder: Path, score: dict[str, Any]) -> list[str]:
    """HTML of everything in score.json beside the tasks of `scenes`; nothing where there is nothing else."""
    measures = [m for m in measures_of(score) if m.name != "scenes"]
    if not measures:
        return []
    parts = ["<h2>Figures</h2>", _table(measures)]
    parts.append(parts_of.warnings([f"{METRICS[m.name].title}: {w}" for m in measures for w in m.warnings]))
    about = dict(score.get("about", {}))
    parts.append(parts_of.warnings(about.pop("notes", [])))
    for m in measures:
        shown = [image(folder / name, caption) for name, caption in m.images.items()]
        if m.parts or any(shown):
            parts.append(f"<h2>{html.escape(METRICS[m.name].title)}</h2>")
        if m.parts:
            parts.append(parts_of.bars([*m.parts.items(), ("overall", m.value)]))
        parts += shown
    if (folder / "pictures.png").exists():
        parts += ["<h2>The first pictures</h2>", image(folder / "pictures.png", "Not chosen by how they came out")]
    parts += ["<h2>How this was measured</h2>", parts_of.pairs(_conditions(about))]
    licences = sorted({part for m in measures for part in METRICS[m.name].licence.split("; ") if part})
    if licences:
        parts.append(f"<p class=soft>Licences of what was measured with. {html.escape('; '.join(licences))}.</p>")
    return parts


def shown_value(name: str, value: float) -> str:
    """As a share, or with three digits that mean something."""
    if name in ("geneval", "geneval_rewritten", "vqa", "memorised", "scenes"):
        return f"{value:.1%}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _table(measures: list[Measure]) -> str:
    rows = ["<tr><th>metric<th>value<th>95 % interval<th>better<th>pictures<th>what it is</tr>"]
    for m in measures:
        metric = METRICS[m.name]
        interval = "" if m.interval is None else " to ".join(shown_value(m.name, v) for v in m.interval)
        against = f" against {m.reference:,}" if m.reference else ""
        details = "; ".join(
            f"{k}: {v if isinstance(v, (str, bool, int)) else f'{v:.3g}'}" for k, v in m.details.items()
        )
        rows.append(
            f"<tr><td><b>{html.escape(metric.title)}</b><td class=number><b>{shown_value(m.name, m.value)}</b>"
            f"<td class=number>{interval}<td>{metric.better}<td>{m.pictures:,}{against}"
            f"<td class=meaning>{html.escape(metric.meaning)}{'. ' if details else ''}{html.escape(details)}</tr>"
        )
    return f"<div class=scroll><table>{''.join(rows)}</table></div>"


def _conditions(about: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, value in about.items():
        if isinstance(value, dict):
            rows.append((f"{key}, by part", ", ".join(f"{k} {v:g} s" for k, v in value.items())))
        elif isinstance(value, list):
            rows.append(
                (key, f"{len(value)}: " + "; ".join(map(str, value[:10])) + (" ..." if len(value) > 10 else ""))
            )
        else:
            rows.append((key, str(value)))
    return rows
