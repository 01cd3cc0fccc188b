"""What can be measured: names, meanings, and the form that every figure has.

To add a metric: an entry in METRICS, and the function in measurers.py that it names. This file needs no torch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from daybreak.config import ConfigError
from daybreak.config.values import some_of


@dataclass(frozen=True)
class Metric:
    """A metric by its name on the command line. `by`: its function in measurers.py.

    `needs`: what must be at hand beside the pictures; `share`: whether it is one, shown in per cent.
    """

    title: str
    better: Literal["lower", "higher"]
    meaning: str
    by: str
    network: str | None = None
    needs: Literal["reference", "captions", "drawing", "questions", "baseline", "training", None] = None
    licence: str = ""
    share: bool = False


_INCEPTION = "Inception weights: Apache-2.0 (Google), converted by NVIDIA"
_CLIP = "CLIP: MIT (OpenAI)"
_DINO = "DINOv2: Apache-2.0 (Meta)"

METRICS = {
    "fid": Metric("FID", "lower", "Fréchet distance of Inception features to the reference pictures", "distance",
                  "inception", "reference", _INCEPTION),
    "kid": Metric("KID", "lower", "kernel distance of Inception features to the reference, without bias; times 1000",
                  "distance", "inception", "reference", _INCEPTION),
    "is": Metric("Inception score", "higher", "how sure and how varied a classifier finds the pictures, 1 to 1000",
                 "inception_score", "inception_classes", None, _INCEPTION),
    "cmmd": Metric("CMMD", "lower", "Gaussian kernel distance of CLIP features to the reference",
                   "distance", "clip_336", "reference", _CLIP),
    "fd_dinov2": Metric("FD-DINOv2", "lower", "Fréchet distance of DINOv2 features to the reference pictures",
                        "distance", "dinov2", "reference", _DINO),
    "dino_mmd": Metric("DINO-MMD", "lower", "Gaussian kernel distance of DINOv2 features to the reference",
                       "distance", "dinov2", "reference", _DINO),
    "clipscore": Metric("CLIPScore", "higher", "how near CLIP finds picture and prompt: 100 max(cosine, 0)",
                        "clipscore", "clip", "captions", _CLIP),
    "geneval": Metric("GenEval", "higher", "share of prompts followed, as a detector sees it: mean of six tasks",
                      "geneval", None, None, "GenEval: MIT; Mask2Former: MIT (Meta); " + _CLIP, share=True),
    "geneval_rewritten": Metric("GenEval, rewritten", "higher", "the same, prompts made longer by a model",
                                "geneval", None, "drawing", "GenEval: MIT; Mask2Former: MIT (Meta); " + _CLIP,
                                share=True),
    "scenes": Metric("Scenes", "higher", "share of prompts of the embedded world followed in every attribute",
                     "scenes", None, "drawing", share=True),
    "vqa": Metric("Questions (as DPG-Bench)", "higher", "share of questions about the prompt that a vision-language "
                  "model answers with yes", "vqa", None, "questions", "the vision-language model's own licence",
                  share=True),
    "day_check": Metric("The day's check", "lower", "FID over the baseline's; at most 1.1 passes", "day_check",
                        "inception", "baseline", _INCEPTION),
    "memorised": Metric("Memorised", "lower", "share of pictures nearer to a training picture than real ones are",
                        "memorised", "dinov2", "training", _DINO, share=True),
}  # fmt: skip

SOME_METRICS = some_of(METRICS)
"""How metrics are asked for: fid,kid."""
PROMPTS, PICTURES_EACH = 10, 10
"""Of the day's check: its prompts, and the pictures drawn of each."""
LEAST_FRECHET = 50
"""With fewer pictures a Fréchet distance is refused: it would say nothing but how few they are."""
ENOUGH_FRECHET = 10_000
"""With more pictures its bias is mostly below 1, and publications stop mentioning it."""


@dataclass
class Measure:
    """One figure. interval: 95 %; parts: its tasks; pictures: how many were judged; images: files in the folder."""

    name: str
    value: float
    pictures: int
    interval: tuple[float, float] | None = None
    reference: int | None = None
    parts: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    """What to show: a caption for each file name in the evaluation's folder."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without empty fields."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "name" and v not in (None, {}, [])}


def measures_of(score: dict[str, Any]) -> list[Measure]:
    """The figures in a score.json, whose own tasks of `scenes` stand at its top level."""
    found = [Measure(name=name, **row) for name, row in score.get("metrics", {}).items()]
    if "overall" in score:
        parts = {k: v for k, v in score.items() if isinstance(v, float) and k != "overall"}
        counts, intervals = score.get("counts", {}), score.get("intervals", {})  # earlier versions did not keep them
        pictures = counts.get("overall", 0) + counts.get("held_out", 0)
        interval = tuple(intervals["overall"]) if "overall" in intervals else None
        found.insert(0, Measure("scenes", score["overall"], pictures, interval, parts=parts))
    return found


def check_frechet(name: str, pictures: int, what: str) -> None:
    """ConfigError where there are too few pictures for a Fréchet distance."""
    if pictures < LEAST_FRECHET:
        raise ConfigError(
            f"{METRICS[name].title} over {pictures} pictures {what} says nothing: at least {LEAST_FRECHET} are "
            f"needed, and {ENOUGH_FRECHET:,} for a figure to compare; kid and cmmd work with few pictures"
        )
