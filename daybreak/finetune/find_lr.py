"""The learning-rate finder: the rate rises step by step, and a fixed loss says where that helps and where it hurts.

After Smith (arXiv 1506.01186), with two changes: the loss is that of training pictures with fixed noise, so that no
smoothing is needed, and the suggestion is a tenth of the rate at which it is lowest, since Adam's steps do not shrink
with the gradient.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from daybreak.finetune.loop import Run, one_step
from daybreak.finetune.probes import Probe

STEPS, DECADES_BELOW, DECADES_ABOVE = 40, 2.0, 2.5
"""The rates tried, around the method's default."""
DIVERGED = 1.5
"""The finder stops once the loss is so many times the first one."""
PICTURES = 8


def find_learning_rate(run: Run, tell: Callable[[int, int], None]) -> tuple[float, list[tuple[float, float]]]:
    """(suggestion, [(rate, loss after the step)]). It changes the weights: a run does not go on from here."""
    state, cache = run.state, run.cache
    rows = torch.stack([cache.rows[i].cpu() for i in cache.training[:PICTURES]])
    captions = [cache.captions[i] for i in cache.training[:PICTURES]]
    probe = Probe.of(rows, captions, state.process, state.family.row_channels(rows.shape[1]))
    base = state.settings.learning_rate
    found: list[tuple[float, float]] = []
    for i in range(STEPS):
        factor = 10 ** (-DECADES_BELOW + (DECADES_BELOW + DECADES_ABOVE) * i / (STEPS - 1))
        one_step(run, factor)
        state.step += 1
        with state.autocast():
            loss = probe.loss(state.family, state.process, run.text_of, state.device)
        found.append((base * factor, loss))
        tell(i + 1, STEPS)
        if not loss < DIVERGED * found[0][1]:
            break
    lowest = min(found, key=lambda pair: pair[1] if pair[1] == pair[1] else float("inf"))
    return lowest[0] / 10, found


def write_curve(found: list[tuple[float, float]], suggestion: float, folder: Path) -> Path:
    """lr.json and lr.png; returns the picture."""
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
