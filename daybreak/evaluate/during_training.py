"""Metrics while a model trains: the same evaluation, of the averaged weights, by all processes of the run."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.checks import check_request
from daybreak.evaluate.evaluation import evaluate
from daybreak.evaluate.measures import SOME_METRICS
from daybreak.evaluate.request import Request, parse_weights
from daybreak.evaluate.subjects import RunDrawer, Subject
from daybreak.evaluate.workbench import Workbench
from daybreak.model.transformer import Transformer
from daybreak.parallel import joined


def measurement_request(config: Config) -> Request:
    """What `config.evaluate` asks for. ConfigError, so call it before training, for what cannot be measured."""
    e = config.evaluate
    reference = Path(e.reference).expanduser() if e.reference is not None else None
    try:
        metrics = SOME_METRICS.parse(",".join(e.metrics), "--metrics")
        request = Request(metrics, reference, count=e.metrics_count, weights=parse_weights(list(e.weights)))
        check_request(request, draws=True, config=config)
    except ConfigError as error:  # those settings have other names here
        raise ConfigError(re.sub("--(metrics|reference|weights)", r"--evaluate.\1", str(error))) from None
    return request


def due(config: Config, images_before: int, images: int) -> bool:
    """Whether a measurement falls between two counts of pictures seen."""
    every = config.evaluate.metrics_every
    return bool(config.evaluate.metrics) and images // every > images_before // every


def measure(
    transformer: Transformer, text_encoder: TextEncoder, config: Config, run: Path, images: int, device: torch.device
) -> dict[str, float]:
    """{metric: value} of the averaged networks after `images` pictures; details go to RUN/metrics/IMAGES/score.json.

    Called by every process of a run at the same step; each generates and measures its share. Networks and reference
    statistics are loaded anew and let go afterwards, since training needs the memory. The caller pauses the clock.
    """
    request = measurement_request(config)
    drawer = RunDrawer(transformer, text_encoder, config, config.evaluate.seed)
    subject = Subject(run.name, {"images seen": f"{images:,}"}, drawer, config=config, run=run)
    with joined() as ranks:
        out = run / "metrics" / f"{images:012d}"
        score = evaluate(Workbench(subject, request, out, device, ranks, lambda _: None))
    values = {name: row["value"] for name, row in score.get("metrics", {}).items()}
    return values | ({"scenes": score["overall"]} if "overall" in score else {})
