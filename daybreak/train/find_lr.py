"""The learning-rate finder: the rate rises step by step, and a fixed loss says where that helps and where it hurts.

After Smith (arXiv 1506.01186), with two changes: the loss is that of fixed pictures with fixed noise, so that no
smoothing is needed, and the suggestion is a tenth of the rate at which it is lowest, since steps of Adam and
Muon do not shrink with the gradient.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch

from daybreak.parallel import Ranks
from daybreak.train.stage import Stage
from daybreak.train.step import Step, clip_and_step
from daybreak.train.trainee import Trainee

STEPS, DECADES_BELOW, DECADES_ABOVE = 40, 2.0, 2.5
"""The rates tried, around the config's."""
DIVERGED = 1.5
"""The finder stops once the loss is this many times the first one."""
DRAWS = 5
"""Of the noise that the fixed loss is the mean over."""


def find_learning_rate(
    trainee: Trainee, ranks: Ranks, note: Callable[[str], None]
) -> tuple[float, list[tuple[float, float]]]:  # fmt: skip
    """(suggested factor of the config's rates, [(factor, loss after the step)]).

    It changes the weights: a run does not go on from here.
    """
    stage, step = Stage(trainee, 0, ranks), Step(trainee, ranks, note)
    trainee.prepare()
    fixed, c = next(stage.batches), stage.config
    parts = [(rows, fixed.rows(rows)) for rows in trainee.parts(fixed, len(fixed))]
    draws = [trainee.random(fixed, c).rows(ranks.rows(c.train.batch)) for _ in range(DRAWS)]

    def fixed_loss() -> float:
        with torch.no_grad(), trainee.autocast():
            losses = [
                trainee.loss(part, random.rows(rows), c, 0.0, len(part) / len(fixed))[0]
                for random in draws
                for rows, part in parts
            ]
        return float(ranks.mean((torch.stack(losses).sum() / DRAWS)[None].double().cpu()))

    found: list[tuple[float, float]] = []
    for i in range(STEPS):
        factor = 10 ** (-DECADES_BELOW + (DECADES_BELOW + DECADES_ABOVE) * i / (STEPS - 1))
        step.backward(next(stage.batches), c, 0.0, watched=False)
        clip_and_step(
            trainee.parameters(), trainee.optimizers, c.optim.clip_norm, factor, math.isfinite, trainee.scaler
        )
        found.append((factor, fixed_loss()))
        if not found[-1][1] < DIVERGED * found[0][1]:
            break
    stage.batches.close()
    lowest = min(found, key=lambda pair: pair[1] if math.isfinite(pair[1]) else math.inf)
    return lowest[0] / 10, found


def write_curve(found: list[tuple[float, float]], suggestion: float, folder: Path) -> Path:
    """lr.json and lr.png of (rate, loss); returns the picture."""
    from matplotlib.figure import Figure

    (folder / "lr.json").write_text(json.dumps({"suggestion": suggestion, "curve": found}) + "\n")
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogx([r for r, _ in found], [v for _, v in found])
    axes.axvline(suggestion, color="tab:orange", label=f"suggested: {suggestion:.2g}")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss on fixed pictures and noise")
    axes.legend()
    path = folder / "lr.png"
    figure.savefig(path, dpi=120)
    return path
