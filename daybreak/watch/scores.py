"""The score of a run on scenes as rows: share, interval, and of how many prompts."""

from __future__ import annotations

from typing import Any

from daybreak.evaluate.report_scenes import scenes_rows


def scores_of(score: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """tasks and attributes, each a list of {title, share, n, low, high}; n and interval where they are known."""
    counts, intervals = score.get("counts", {}), score.get("intervals", {})
    found = {}
    for part, rows in scenes_rows(score).items():
        found[part] = []
        for name, title in rows:
            low, high = intervals.get(name, (None, None))
            found[part].append(
                {"name": name, "title": title, "share": score[name], "n": counts.get(name), "low": low, "high": high}
            )
    return found
