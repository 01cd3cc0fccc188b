"""`daybreak evaluate`: a run's score, its grid, and its report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daybreak.config import Config, ConfigError, EvaluateConfig, override
from daybreak.data.scenes.world import TASKS
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.composition import (
    Prompt,
    held_out_prompts,
    hits_of,
    judge_all,
    prompts_of_tasks,
    score,
    score_attributes,
    see_all,
)
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.judge import SeenScene, tell
from daybreak.evaluate.metrics import share_interval
from daybreak.evaluate.shown import Shown
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks
from daybreak.run_folder import JUDGED
from daybreak.sampling.generate import generate_together

SHOWN_PER_TASK = 4
SUMMARY = ("one_and_two_objects", "held_out", "overall")
"""What is told of pictures whose prompts were not written out."""


@dataclass(frozen=True)
class Evaluation:
    """The figures (see `score` and `score_attributes`), and how many pictures were judged.

    counts: the prompts behind each figure that is a share of prompts; intervals: its 95 %.
    """

    scores: dict[str, float]
    pictures: int
    counts: dict[str, int]
    intervals: dict[str, tuple[float, float]]

    def as_json(self) -> dict[str, Any]:
        """What score.json holds."""
        return {**self.scores, "counts": self.counts, "intervals": self.intervals}


def evaluate_scenes(
    transformer: Transformer, text_encoder: TextEncoder, config: Config, run: Path, ranks: Ranks = Ranks(),
    until: float | None = None,
) -> Evaluation:  # fmt: skip
    """Samples and judges the evaluation prompts of a run; see `judge_scenes`. All `ranks` sample, the first writes.

    Where the run writes prompts out first, the same prompts are sampled as they stand, too.

    until: a moment of time.monotonic() at which sampling ends, with fewer prompts if need be, as many of each task.
    Raises ConfigError for a run that was not trained on `scenes`, whose pictures nothing here can judge.
    """
    if config.data.source != "scenes":
        raise ConfigError(f"{run} was trained on {config.data.folder}; only runs on scenes can be judged so far")

    def draw(prompts: list[str], numbers: list[int] | None = None, how: Config = config) -> Tensor:
        return generate_together(ranks, transformer, text_encoder, prompts, how, config.evaluate.seed, numbers)

    out = run if ranks.first else None
    if until is None:
        plain = override(config, "sample.expand", "none")
        draw_plain = None if config.sample.expand is None else lambda prompts: draw(prompts, how=plain)
        evaluation = judge_scenes(draw, config.evaluate, out, draw_plain)
    else:
        prompts = _prompts(config.evaluate)
        chosen, pictures = _draw_until(until, prompts, draw, config.sample.batch, ranks)
        evaluation = _judge([prompts[i] for i in chosen], pictures, out)
    if ranks.first:
        (run / "score.json").write_text(json.dumps(evaluation.as_json(), indent=2) + "\n")
    return evaluation


def _draw_until(
    until: float, prompts: list[Prompt], draw: Callable[[list[str], list[int]], Tensor], batch: int, ranks: Ranks
) -> tuple[list[int], Tensor]:
    """Numbers of the prompts that were sampled by then, ascending, and their pictures; one of each kind in any case."""
    kinds: dict[tuple[str, bool], int] = {}
    turn = []
    for p in prompts:
        turn.append(kinds.get(kind := (p.spec.task, p.spec.held_out), 0))
        kinds[kind] = turn[-1] + 1
    order = sorted(range(len(prompts)), key=lambda i: (turn[i], i))
    start, size, parts = 0, len(kinds), []
    while start < len(order):
        began = time.monotonic()
        numbers = order[start : start + size]
        parts.append(draw([prompts[i].text for i in numbers], numbers))
        start += len(numbers)
        each = (time.monotonic() - began) / len(numbers)
        # The first process says how many more there is time for, so that all stop together.
        size = ranks.gather(min(batch, int((until - time.monotonic()) / each)))[0]
        if size < 1:
            break
    pictures = torch.cat(parts)
    ascending = sorted(range(start), key=order.__getitem__)
    return [order[i] for i in ascending], pictures[torch.tensor(ascending)]


def judge_scenes(
    draw: Callable[[list[str]], Tensor], settings: EvaluateConfig, out: Path | None,
    draw_plain: Callable[[list[str]], Tensor] | None = None,
) -> Evaluation:  # fmt: skip
    """Has the evaluation prompts of `scenes` sampled and judges them; writes grid.png and failures.png into `out`.

    `draw` takes prompts to square pictures [B, 3, S, S] in [-1, 1], of at least 32 px. draw_plain: the same with
    prompts as they stand, where `draw` writes them out; what is followed then has `as_they_stand_` before its name.
    """
    prompts = _prompts(settings)
    texts = [p.text for p in prompts]
    evaluation = _judge(prompts, draw(texts), out)
    if draw_plain is not None:
        as_they_stand = _judge(prompts, draw_plain(texts), None)
        evaluation.scores.update({f"as_they_stand_{k}": as_they_stand.scores[k] for k in SUMMARY})
        evaluation.counts.update({f"as_they_stand_{k}": as_they_stand.counts[k] for k in SUMMARY})
        evaluation.intervals.update({f"as_they_stand_{k}": as_they_stand.intervals[k] for k in SUMMARY})
    return evaluation


def _prompts(settings: EvaluateConfig) -> list[Prompt]:
    prompts = prompts_of_tasks(settings.prompts_per_task, settings.seed)
    return prompts + held_out_prompts(settings.held_out_prompts, settings.seed)


def _judge(prompts: list[Prompt], pictures: Tensor, out: Path | None) -> Evaluation:
    try:
        seen = see_all(pictures)
    except ValueError as e:
        raise ConfigError(f"--metrics scenes: {e}") from None
    followed = judge_all(prompts, seen)
    if out is not None:
        first = _first_of_each(prompts)
        shown = Shown(out / JUDGED)
        _save(out / "grid.png", first, pictures, prompts, followed)
        _show(shown, "prompt", first, pictures, prompts, seen, followed)
        missed = [i for i, ok in enumerate(followed) if not ok][:24]
        (out / "failures.png").unlink(missing_ok=True)
        if missed:
            _save(out / "failures.png", missed, pictures, prompts, followed)
            _show(shown, "failure", missed, pictures, prompts, seen, followed)
        shown.close()
    scores = score(prompts, followed)
    overall = scores.pop("overall")
    hits = hits_of(prompts, followed)
    counts = {name: sum(n for _, n in of) for name, of in hits.items()}
    intervals = {name: share_interval(of) for name, of in hits.items()}
    scores = {**scores, **score_attributes(prompts, seen), "overall": overall}
    return Evaluation(scores, len(prompts), counts, intervals)


def _first_of_each(prompts: list[Prompt]) -> list[int]:
    """The first few prompts of each task, then of the held-out ones: not chosen by how they came out."""
    groups = [[i for i, p in enumerate(prompts) if p.spec.task == task and not p.spec.held_out] for task in TASKS]
    groups.append([i for i, p in enumerate(prompts) if p.spec.held_out])
    return [i for group in groups for i in group[:SHOWN_PER_TASK]]


def _show(
    shown: Shown, name: str, rows: list[int], pictures: Tensor, prompts: list[Prompt], seen: list[SeenScene],
    followed: list[bool],
) -> None:  # fmt: skip
    told = [tell(seen[i], prompts[i].spec) for i in rows]
    texts = [prompts[i].text for i in rows]
    shown.pictures(pictures[torch.tensor(rows)], texts, [followed[i] for i in rows], told, name)


def _save(path: Path, rows: list[int], pictures: Tensor, prompts: list[Prompt], followed: list[bool]) -> None:
    chosen = pictures[torch.tensor(rows)]
    save_grid(chosen, [prompts[i].text for i in rows], path, [followed[i] for i in rows], columns=SHOWN_PER_TASK * 2)
