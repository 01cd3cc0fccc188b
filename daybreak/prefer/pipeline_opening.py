"""The same of a model of diffusers, and of an adapter on one of our own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from daybreak import config as configs
from daybreak.checkpoint_files import complete
from daybreak.config import Config, ConfigError, override, override_all
from daybreak.finetune import adapter_files
from daybreak.finetune import settings as finetune_settings
from daybreak.finetune.base_files import predicts_noise
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.process import Flow
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.trainee import loop_config
from daybreak.model_folder import is_own, kind_of
from daybreak.parallel import pick_device
from daybreak.prefer import settings as settings_file
from daybreak.prefer.opening import Note, import_people, open_lessons
from daybreak.prefer.own import WARMUP_STEPS, stages_of
from daybreak.prefer.pipeline import PreferringPipeline
from daybreak.prefer.pipeline_online import OnlinePipeline
from daybreak.prefer.pipeline_pairs import PairwisePipeline
from daybreak.prefer.settings import PreferSettings
from daybreak.run_folder import load_run_config
from daybreak.train import checkpoint

RATES = {"full": 1e-6, "lora": 1e-4}
"""Learning rates: Diffusion-DPO's order for the whole network, a LoRA's as in fine-tuning."""
NO_FLOW = "--online is for flow matching, and {} predicts noise or v: without it, a judge makes pairs, in rounds"
SAMPLES = 4
"""Times that samples are drawn over a run."""


def begin_pipeline(settings: PreferSettings, run: Path, note: Note) -> None:
    """Writes into a new run's folder what it is at step 0. ConfigError for a base that cannot be trained so."""
    told = finetuning_of(settings)
    if settings.online and predicts_noise(told.base):
        raise ConfigError(NO_FLOW.format(settings.run))
    import_people(settings, run, note)
    finetune_settings.save(told, run)
    settings_file.save(settings, run)


def open_pipeline_trainee(settings: PreferSettings, run: Path, note: Note) -> PreferringPipeline:
    """The state of the newest undamaged checkpoint, or the base where there is none yet."""
    told = finetune_settings.load(run)
    base = open_prepared(told, pick_device())
    base.family.pipeline.to(base.device)
    base.averages.to(base.device)
    own = is_own(settings.run)
    config = load_run_config(Path(settings.run)) if own and kind_of(Path(settings.run)) == "run" else None
    if config is not None and settings.expand is not None:
        config = override(config, "sample.expand", settings.expand)
    base.rests = False  # a step reads prompts, and has pictures brought into latents, or out of them
    if settings.online and not isinstance(base.process, Flow):
        raise ConfigError(NO_FLOW.format(settings.run))
    trainee = (OnlinePipeline if settings.online else PairwisePipeline)(
        config=preferring_loop(told, settings),
        optimizers=[base.optimizer()],
        generator=torch.Generator().manual_seed(settings.seed),
        scaler=torch.amp.GradScaler(base.device.type) if base.dtype == torch.float16 else None,
        base=base,
        folder=run,
        lessons=open_lessons(settings, run, config, base.device),
        own_config=config,
    )
    if complete(run):
        checkpoint.restore(trainee, checkpoint.newest_good(run, note))
    return trainee


def finetuning_of(settings: PreferSettings) -> FinetuneSettings:
    """How the base is trained and drawn with, as `daybreak finetune` says it: of a run of that, as it was; a result
    that is an adapter is gone on with."""
    run = Path(settings.run)
    changes: dict[str, Any] = {
        "method": settings.method,
        "lr": settings.lr or RATES[settings.method],
        "batch": settings.batch,
        "seed": settings.seed,
        "ema": 0.99,
        "drop_captions": 0.0,
        "weight_decay": 0.0,
        "report": False,
        "warmup_steps": WARMUP_STEPS,
        "sample_every": max(1, settings.steps // SAMPLES),
    }
    if settings.method == "lora":
        changes["rank"] = settings.rank
    if kind_of(run) != "finetuned":
        return FinetuneSettings(base=settings.run, **changes)
    before = finetune_settings.load(run)
    drawing = {n: getattr(before, n) for n in ("resolution", "sampler", "sample_steps", "guidance", "precision")}
    if (run / "model").is_dir():
        return FinetuneSettings(base=str(run / "model"), **changes, **drawing)
    if before.method != "lora":
        raise ConfigError(f"{run}: its result is {before.method}: preferences are learnt by a model or a LoRA")
    if settings.method != "lora":
        raise ConfigError(f"{run}: its result is a LoRA: give --method lora, which goes on with it")
    if settings.differs("rank"):
        raise ConfigError(f"--rank has no effect with {run}, whose LoRA has its own")
    del changes["rank"]
    lora = str(adapter_files.result_file(run / "lora"))
    return FinetuneSettings(base=before.base, lora=lora, **changes, **drawing)


def preferring_loop(told: FinetuneSettings, settings: PreferSettings) -> Config:
    """What the loop is told."""
    config = loop_config(replace(told, steps=settings.steps), settings.steps, settings.batch)
    changes = {
        "recipe": "prefer",
        "train.microbatch": None,
        "train.steps": None if settings.minutes or settings.deadline else settings.steps,
        "train.minutes": settings.minutes,
        "budget.hours": settings.deadline,
    }
    if settings.minutes or settings.deadline:
        changes |= {"train.sample_steps": None, "train.sample_every": 1 / SAMPLES}
    return configs.check(replace(override_all(config, changes.items()), stages=stages_of(settings)))
