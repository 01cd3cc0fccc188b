"""The evaluation's part of a report: figures with intervals and warnings, tasks, pictures, conditions, licences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daybreak.evaluate.measures import METRICS, Measure, measures_of
from daybreak.evaluate.report_scenes import scenes_score
from daybreak.html.page import write_page
from daybreak.run_folder import JUDGED, read_shown


def write_evaluation_report(folder: Path, name: str, score: dict[str, Any]) -> Path:
    """Writes FOLDER/report.html on a model or folder of pictures that is no run of ours. Returns its path."""
    return write_page(
        folder / "report.html",
        "evaluation.html",
        title=name,
        about="as daybreak evaluate measured it",
        folder=folder,
        scenes=scenes_score(score),
        judged=read_shown(folder / JUDGED),
        figures=figures_of(folder, score),
    )


def figures_of(folder: Path, score: dict[str, Any]) -> dict[str, Any]:
    """Everything in score.json beside the tasks of `scenes`, for figures.html; empty where there is nothing else."""
    measures = [m for m in measures_of(score) if m.name != "scenes"]
    if not measures:
        return {}
    about = dict(score.get("about", {}))
    return {
        "measures": [_row(folder, m) for m in measures],
        "warnings": [f"{METRICS[m.name].title}: {w}" for m in measures for w in m.warnings],
        "notes": about.pop("notes", []),
        "pictures": folder / "pictures.png",
        "conditions": _conditions(about),
        "licences": sorted({part for m in measures for part in METRICS[m.name].licence.split("; ") if part}),
    }


def shown_value(name: str, value: float) -> str:
    """As a share, or with three digits that mean something."""
    if METRICS[name].share:
        return f"{value:.1%}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def shown_interval(m: Measure) -> str:
    """Both ends of the interval; empty where there is none."""
    return "" if m.interval is None else " to ".join(shown_value(m.name, v) for v in m.interval)


def _row(folder: Path, m: Measure) -> dict[str, Any]:
    details = {k: v if isinstance(v, (str, bool, int)) else f"{v:.3g}" for k, v in m.details.items()}
    return {
        "metric": METRICS[m.name],
        "value": shown_value(m.name, m.value),
        "interval": shown_interval(m),
        "pictures": f"{m.pictures:,}" + (f" against {m.reference:,}" if m.reference else ""),
        "details": "; ".join(f"{k}: {v}" for k, v in details.items()),
        "tasks": [*m.parts.items(), ("overall", m.value)] if m.parts else [],
        "images": [(folder / name, caption) for name, caption in m.images.items() if (folder / name).is_file()],
    }


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
