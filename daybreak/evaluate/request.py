"""What `daybreak evaluate` and `daybreak sample` are asked for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from daybreak.config import Config, ConfigError
from daybreak.config.bounds import Bounds, Count, Natural, NotNegative, Typed
from daybreak.config.fields import Checked
from daybreak.evaluate.adapter_option import parse_adapter
from daybreak.evaluate.measures import METRICS, SOME_METRICS
from daybreak.hub_models import HUB_MODELS


def parse_weights(words: list[str]) -> dict[str, str]:
    """["clip=folder"] -> {"clip": "folder"}; ConfigError for a network that nothing uses."""
    return dict(parse_weight(word, "--weights") for word in words)


def parse_weight(word: str, flag: str) -> tuple[str, str]:
    """ "clip=folder" -> ("clip", "folder"); ConfigError for a network that nothing uses."""
    known = ("inception", *HUB_MODELS)
    name, equals, value = word.partition("=")
    if not equals or not value or name not in known:
        raise ConfigError(f"{flag} {word}: it should be NAME=FILE_OR_FOLDER, NAME one of {', '.join(known)}")
    return name, value


@dataclass(frozen=True)
class Drawing(Checked):
    """How pictures are drawn."""

    seed: Natural | None = None
    """The same seed draws the same pictures; none: 0 for a sample, the model's own for an evaluation."""
    steps: Annotated[int | None, Bounds(least=1, most=1000)] = None
    """Sampler steps; none: the model's own."""
    guidance: NotNegative | None = None
    """Scale of guidance, 1 is none; none: the model's own."""
    size: Annotated[int | None, Bounds(least=8)] = None
    """Side of the pictures, px; none: that of training."""
    batch: Count | None = None
    """Pictures drawn at once; none: the model's own."""
    lora: tuple[str, ...] = ()
    """[NAME=]FILE[:STRENGTH] of an adapter, whoever trained it, on the model (of this name); 1 is what was trained."""
    expand: str | None = None
    """Who writes out what a prompt leaves open: scenes (rules), a chat model, or an address of OpenAI's chat API.
    `none` draws prompts as they stand; default: as the model has it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.lora:
            parse_adapter(text)


@dataclass(frozen=True)
class Request(Checked):
    """What to measure, and with what."""

    metrics: Annotated[tuple[str, ...], SOME_METRICS] = ()
    """What to measure; empty: what the subject allows."""
    reference: Path | None = None
    """Real pictures to compare with, best such that training never saw."""
    prompts: Path | None = None
    """File of prompts, .txt or .jsonl; none: the reference's captions."""
    count: Annotated[int, Bounds(least=2)] = 1000
    """Pictures to draw for comparison with the reference."""
    training: Path | None = None
    """Training pictures; none: the run's."""
    baseline: str | None = None
    """What day_check compares with: as a subject."""
    questions: Path | None = None
    """Questions of vqa: CSV as DPG-Bench's."""
    geneval_prompts: Path | None = None
    """GenEval's evaluation_metadata.jsonl; none: fetched from its authors."""
    weights: Annotated[dict[str, str], Typed(parse_weight, "NAME=PLACE")] = field(default_factory=dict)
    """File, folder or hub id of a metric's network, in place of a download."""
    drawing: Drawing = field(default_factory=Drawing)

    def of(self, config: Config | None, name: str) -> Request:
        """With the metrics that are measured without being asked for, where none are asked for.

        config: of a run. `scenes` of a run on it, else distances to the reference; ConfigError, which begins with the
        subject's `name`, where there is neither.
        """
        if self.metrics:
            return self
        if config is not None and config.data.source == "scenes" and self.reference is None:
            return dataclasses.replace(self, metrics=("scenes",))
        if self.reference is not None:
            return dataclasses.replace(self, metrics=("fid", "kid"))
        raise ConfigError(
            f"{name}: say what to measure with --metrics ({', '.join(METRICS)}), or give --reference FOLDER for "
            "fid and kid"
        )

    def training_folder(self, config: Config | None) -> Path | None:
        """Of --training, else what the run of `config` was trained on."""
        if self.training is not None:
            return self.training.expanduser()
        return Path(config.data.folder).expanduser() if config is not None and config.data.folder else None
