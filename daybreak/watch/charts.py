"""Which curves stand in one chart, in which order, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from daybreak.evaluate.measures import METRICS
from daybreak.watch.log import FOLLOWED, LOSS, SMOOTHED


@dataclass(frozen=True)
class Chart:
    """curves: full names, or the group's, whose curves are all in it. share: shown in per cent. log: so at first.

    more: shown when one asks for more.
    """

    title: str
    curves: tuple[str, ...]
    unit: str = ""
    share: bool = False
    log: bool = False
    more: bool = False


CHARTS = (
    Chart("Loss", (LOSS, SMOOTHED), log=True),
    Chart("Prompts followed", (FOLLOWED,), share=True),
    Chart("Loss on fixed pictures", ("probe/domain", "probe/general")),
    Chart("Change of the loss on fixed pictures", ("probe/domain_change", "probe/general_change"), share=True),
    Chart("Drift of general pictures", ("probe/drift",), share=True),
    Chart("Judges, on held-out prompts", ("probe/judge", "probe/check")),
    Chart("Pictures of held-out prompts", ("probe/diversity", "probe/drift_from_reference")),
    Chart("Terms of the loss", ("terms/",), log=True),
    Chart("Loss by noise level", ("loss_at_noise/",), log=True, more=True),
    Chart("Speed", ("images_per_second",), "images/s"),
    Chart("Memory, the most so far", ("measured/host_memory_gib", "measured/memory_gib"), "GiB"),
    Chart("Learning rate", ("learning_rates/",), more=True),
    Chart("Gradient norm", ("gradient_norm",), log=True, more=True),
    Chart("Gradient norm by part", ("gradient_norm/",), log=True, more=True),
    Chart("Size of an update, of the weights'", ("update/",), log=True, more=True),
    Chart("Waiting for data", ("waiting",), share=True, more=True),
    Chart("Of what the device multiplies", ("measured/mfu",), share=True, more=True),
    Chart("Cost", ("cost",), "USD"),
)
NAMES = {"host_memory_gib": "main memory", "memory_gib": "GPU", "domain": "held-out pictures",
         "check": "other judge", "diversity": "spread within a prompt", "general": "general prompts",
         "domain_change": "held-out pictures", "general_change": "general prompts",
         "images_per_second": "images/s", "mfu": "MFU", "lr_factor": "share of the base rate"}  # fmt: skip
LEFT_OUT = {"lr_factor", "measured/matmul_tflops", "measured/text_tokens", "measured/processes", "measured/epochs"}
"""Drawn by nothing: constants, and what other curves say."""


def charts_of(names: Iterable[str]) -> list[dict[str, Any]]:
    """The charts that curves of these names make: CHARTS, then one for each metric and whatever else was measured."""
    left = [n for n in names if n not in LEFT_OUT]
    found = []
    for chart in CHARTS:
        own = [n for n in left if any(n == c or (c.endswith("/") and n.startswith(c)) for c in chart.curves)]
        left = [n for n in left if n not in own]
        if own:
            found.append(_as_json(chart, own))
    for name in left:
        metric = METRICS.get(name.removeprefix("metrics/"))
        title = metric.title if metric else name.split("/")[-1].replace("_", " ")
        found.append(_as_json(Chart(title, (name,), share=bool(metric and metric.share), more=metric is None), [name]))
    return found


def _as_json(chart: Chart, names: list[str]) -> dict[str, Any]:
    curves = [{"name": n, "label": NAMES.get(last := n.split("/")[-1], last.replace("_", " "))} for n in names]
    return asdict(chart) | {"curves": curves}
