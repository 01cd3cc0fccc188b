"""The model in the box beside the demo's own: what both draw for the same prompts, and how soon each learnt."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from daybreak import config as configs
from daybreak.box.pack import curve_of
from daybreak.config import Config
from daybreak.data.scenes.world import TASKS
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.composition import Prompt, judge_all, prompts_of_tasks, see_all
from daybreak.evaluate.grid import save_grid
from daybreak.formats.run import load_averaged
from daybreak.model.transformer import Transformer
from daybreak.model_folder import BOX
from daybreak.run_folder import read_score
from daybreak.sampling.generate import generate

SHOWN_PER_TASK = 2
SEED = 7


def draw_from_box(path: Path) -> dict[str, float]:
    """Draws a few prompts of each task with the model in the box, into a PNG; returns the score on its card."""
    _save(_draw_box(), _prompts(), path, columns=len(TASKS))
    return read_score(BOX / "scenes")


def draw_beside_box(transformer: Transformer, text_encoder: TextEncoder, config: Config, path: Path) -> None:
    """The same prompts by both: the box above, the demo's own model below, row by row. Both are of one world."""
    prompts, columns = _prompts(), len(TASKS)
    own = generate(transformer, text_encoder, [p.text for p in prompts], config, SEED)
    if own.shape[-1] != (pictures := _draw_box()).shape[-1]:
        pictures = torch.nn.functional.interpolate(pictures, size=own.shape[-2:], mode="nearest")
    rows: list[Tensor] = []
    for start in range(0, len(prompts), columns):
        rows += [pictures[start : start + columns], own[start : start + columns]]
    named = [p for start in range(0, len(prompts), columns) for p in 2 * prompts[start : start + columns]]
    _save(torch.cat(rows), named, path, columns)


def plot_curves(run: Path, path: Path) -> None:
    """The share of prompts followed over the pictures seen, of the box and of the run, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, folder in (("in the box", BOX / "scenes"), ("this run", run)):
        images, shares = zip(*curve_of(folder), strict=True)
        axes.plot(images, [100 * share for share in shares], marker="o", label=name)
    axes.set(xscale="log", xlabel="pictures seen, thousands", ylabel="prompts followed, %", ylim=(0, 104))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda images, _: f"{images / 1000:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


@cache
def _draw_box() -> Tensor:
    box = BOX / "scenes"
    config = configs.check(configs.load(box / "config.yaml"))
    networks = load_averaged(box, config, torch.device("cpu"))
    return generate(*networks, [p.text for p in _prompts()], config, SEED)


def _prompts() -> list[Prompt]:
    """The first prompts of each task, the tasks side by side; of another stream than the score's."""
    of_task = prompts_of_tasks(SHOWN_PER_TASK, SEED)
    return [of_task[task * SHOWN_PER_TASK + i] for i in range(SHOWN_PER_TASK) for task in range(len(TASKS))]


def _save(pictures: Tensor, prompts: list[Prompt], path: Path, columns: int) -> None:
    followed = judge_all(prompts, see_all(pictures))
    save_grid(pictures, [p.text for p in prompts], path, followed, columns)
