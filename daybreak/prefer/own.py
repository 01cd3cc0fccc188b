"""A model of our own that learns preferences: its config, and its run folder at step 0."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from daybreak import config as configs
from daybreak.config import Config, ConfigError, StageConfig, override_all
from daybreak.model.transformer import Transformer
from daybreak.prefer.settings import PreferSettings

REFERENCE = "reference"
"""In a run's folder: the weights that it began with, from which learning is measured."""
WARMUP_STEPS = 10
GENTLER = 0.02
"""Of the rates that the model was trained with."""
ONLINE_GENTLER = {"full": 0.02, "text": 0.3}
"""The same of --online, by `method`: AdamW's steps are as large however much of a gradient is noise, so that the whole
network can bear less than its text's part."""
READS_TEXT = re.compile(r"(^|\.)(text\w*|norm_text_k|pooled_embedding|grounding)\.")
"""Of a transformer's parameters those that only text goes through: its embeddings, keys and values."""


def preferring_config(before: Config, settings: PreferSettings) -> Config:
    """The config of the run: as the model was trained, drawn and judged, with this budget and these rates, and without
    what belongs to learning from pictures."""
    o, kind = before.optim, before.sample.guidance_kind
    if settings.online and settings.guidance is None and before.sample.guidance != 1 and kind != "classifier_free":
        raise ConfigError(
            f"{settings.run} draws with {kind} guidance, and --online learns with guidance by text: give --guidance 1"
        )
    usual = ONLINE_GENTLER[settings.method] if settings.online else GENTLER
    factor = usual if settings.lr is None else settings.lr / o.adam_lr
    ends = settings.minutes is None and settings.deadline is None
    changes: dict[str, Any] = {
        "recipe": f"{before.recipe}-prefer",
        "diffusion.p_uncond": 0.0,
        "diffusion.contrastive": 0.0,
        "alignment.weight": 0.0,
        "grounding.weight": 0.0,
        "perceptual.lpips": 0.0,
        "perceptual.dino": 0.0,
        "optim.muon_lr": factor * o.muon_lr,
        "optim.adam_lr": factor * o.adam_lr,
        # With Muon the model became worse: most of this gradient is noise, and its updates have full rank.
        "optim.matrices": "adamw" if settings.online else o.matrices,
        "optim.warmup_steps": WARMUP_STEPS,
        "optim.decay_share": 0.2,
        "train.batch": settings.batch,
        "train.microbatch": None,
        "train.steps": settings.steps if ends else None,
        "train.minutes": settings.minutes,
        "train.seed": settings.seed,
        "train.ema": 0.99,
        "train.posthoc_ema": (),
        "train.sample_every": 0.25,
        "budget.hours": settings.deadline,
        "budget.usd": None,
        "evaluate.metrics": (),
    }
    if settings.expand is not None:
        changes["sample.expand"] = settings.expand
    return configs.check(replace(override_all(before, changes.items()), stages=stages_of(settings)))


def freeze(transformer: Transformer, settings: PreferSettings) -> Transformer:
    """The network, of which what `settings.method` leaves as it is has no gradient."""
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_(settings.method == "full" or READS_TEXT.search(name) is not None)
    return transformer


def stages_of(settings: PreferSettings) -> tuple[StageConfig, ...]:
    """A stage for each round of a judge."""
    rounds = settings.rounds if settings.judge is not None and not settings.online else 1
    return (StageConfig(share=1 / rounds),) * rounds if rounds > 1 else ()


def pairs_folder(run: Path, index: int) -> Path:
    """Where the pairs of round `index` are."""
    return run / "pairs" / f"round-{index:02d}"
