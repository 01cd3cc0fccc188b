"""`daybreak evaluate`: a run's score, its grid, and its report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from daybreak.config import Config, ConfigError
from daybreak.data.scenes.world import TASKS
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.composition import Prompt, held_out_prompts, judge_all, prompts_of_tasks, score
from daybreak.evaluate.generate import generate
from daybreak.evaluate.grid import save_grid
from daybreak.model.transformer import Transformer

SHOWN_PER_TASK = 4


@dataclass(frozen=True)
class Evaluation:
    """A run's figures (see `score`), and where its grids are."""

    scores: dict[str, float]
    grid: Path
    failures: Path | None


def evaluate_scenes(transformer: Transformer, text_encoder: TextEncoder, config: Config, run: Path) -> Evaluation:
    """Draws and judges the evaluation prompts; writes score.json, grid.png and failures.png into `run`.

    Raises ConfigError for a run that was not trained on `scenes`, whose pictures nothing here can judge.
    """
    if config.data.source != "scenes":
        raise ConfigError(f"{run} was trained on {config.data.folder}; only runs on scenes can be judged so far")
    e = config.evaluate
    prompts = prompts_of_tasks(e.prompts_per_task, e.seed) + held_out_prompts(e.held_out_prompts, e.seed)
    pictures = generate(transformer, text_encoder, [p.text for p in prompts], config, e.seed)
    followed = judge_all(pictures, prompts)
    scores = score(prompts, followed)
    (run / "score.json").write_text(json.dumps(scores, indent=2) + "\n")
    shown = _first_of_each(prompts)
    _save(run / "grid.png", shown, pictures, prompts, followed)
    missed = [i for i, ok in enumerate(followed) if not ok][:24]
    failures = run / "failures.png" if missed else None
    if failures:
        _save(failures, missed, pictures, prompts, followed)
    else:
        (run / "failures.png").unlink(missing_ok=True)
    return Evaluation(scores, run / "grid.png", failures)


def _first_of_each(prompts: list[Prompt]) -> list[int]:
    """The first few prompts of each task, then of the held-out ones: not chosen by how they came out."""
    groups = [[i for i, p in enumerate(prompts) if p.spec.task == task and not p.spec.held_out] for task in TASKS]
    groups.append([i for i, p in enumerate(prompts) if p.spec.held_out])
    return [i for group in groups for i in group[:SHOWN_PER_TASK]]


def _save(path: Path, rows: list[int], pictures: Tensor, prompts: list[Prompt], followed: list[bool]) -> None:
    chosen = pictures[torch.tensor(rows)]
    save_grid(chosen, [prompts[i].text for i in rows], path, [followed[i] for i in rows], columns=SHOWN_PER_TASK * 2)
