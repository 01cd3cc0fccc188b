"""`daybreak evaluate`: measures what was asked for of one subject, and writes score.json and what the report shows."""

from __future__ import annotations

import json
import time
from typing import Any

from daybreak.evaluate import measurers
from daybreak.evaluate.checks import check_request
from daybreak.evaluate.measures import METRICS, Measure
from daybreak.evaluate.workbench import Workbench


def evaluate(bench: Workbench) -> dict[str, Any]:
    """Measures everything asked for and returns what it writes into score.json.

    Raises ConfigError before the first picture is generated where something needed is missing.
    """
    check_request(bench.request, bench.subject.drawer is not None, bench.subject.config)
    bench.out.mkdir(parents=True, exist_ok=True)
    score: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name in bench.request.metrics:
        began = time.monotonic()
        bench.tell(f"{METRICS[name].title} ...")
        measure: Measure = getattr(measurers, METRICS[name].by)(name, bench)
        bench.seconds[name] = time.monotonic() - began
        if name == "scenes":
            score |= {**measure.parts, "overall": measure.value, **measure.details}
        else:
            others[name] = measure.as_json()
    bench.show_pictures()
    if others:
        score |= {"metrics": others, "about": bench.about()}
    if bench.ranks.first:
        (bench.out / "score.json").write_text(json.dumps(score, indent=2) + "\n")
    return score
