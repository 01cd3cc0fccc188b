"""What the commands do: run folders, in the order that a user meets them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from daybreak import STARTED
from daybreak import config as configs
from daybreak.arguments import Training
from daybreak.config import Config, ConfigError
from daybreak.data.open import open_source
from daybreak.data.scenes.world import TASKS
from daybreak.display import Display, duration
from daybreak.encoders.teach import teach
from daybreak.evaluate.expand import expanded
from daybreak.evaluate.generate import generate
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.report import write_report
from daybreak.evaluate.report_scenes import ATTRIBUTE_TITLES
from daybreak.evaluate.request import Drawing, told
from daybreak.evaluate.scoring import evaluate_scenes
from daybreak.export.forms import check_without_data, is_pipeline
from daybreak.export.open import open_model
from daybreak.recipes import recipe as find_recipe
from daybreak.run_folder import IN_THE_BOX, load_run_config, new_run_folder
from daybreak.train import checkpoint
from daybreak.train.deadline import Deadline, Limits, afterwards, evaluation_prompts, has_deadline
from daybreak.train.distributed import processes
from daybreak.train.loop import log_score, pick_device, train


def run_demo(console: Console, minutes: float, out: Path | None) -> None:
    """`daybreak demo`: draws with the model in the box, trains one of its own, and shows both side by side."""
    from daybreak.box.show import draw_beside_box, draw_from_box, plot_curves

    name = "scenes-gpu" if pick_device().type == "cuda" else "scenes-demo"
    config = configs.override(find_recipe(name), "train.minutes", minutes)
    configs.check(config)
    run = out or new_run_folder("demo")
    score = draw_from_box(run / IN_THE_BOX)
    console.print(
        f"the model in the box follows {score['one_and_two_objects']:.0%} of prompts of one and two objects; what it "
        f"draws: {run / IN_THE_BOX}",
        highlight=False,
    )
    console.print(
        f"[bold]daybreak demo[/bold]: a text-to-image model of small scenes, from random weights, "
        f"{duration(60 * minutes)} of training at {config.data.resolution} px"
    )
    _train_and_report(console, config, run, resume=False)
    if not (run / "score.json").is_file():
        return  # told to stop
    draw_beside_box(*checkpoint.load_averaged(run, config, pick_device()), config, run / "beside-the-box.png")
    plot_curves(run, run / "curves.png")
    left = Table(title="beside the model in the box", title_justify="left", box=None, padding=(0, 2), show_header=False)
    left.add_row("pictures", f"{run / 'beside-the-box.png'} (each row of the box above this run's)")
    left.add_row("curves", str(run / "curves.png"))
    left.add_row("draw with it", 'daybreak sample scenes --prompt "a large red circle above a small blue square"')
    console.print(left, soft_wrap=True)


def run_train(console: Console, asked: Training) -> None:
    """`daybreak train`."""
    if asked.note is not None:
        console.print(f"note: {asked.note}", markup=False, highlight=False)
    _train_and_report(console, asked.config, asked.run, asked.resume)


def _train_and_report(console: Console, config: Config, run: Path, resume: bool) -> None:
    with processes(config) as ranks:
        run, resume = ranks.drawers.gather((run, resume))[0]  # a new folder's name, told by the clock, is the first's
        if not ranks.first:
            console = Console(quiet=True)
        with Display(console) as display:
            state = train(config, run, [display], resume, ranks, STARTED)
        if state.progress < 1:
            return  # told to stop
        config, evaluation = configs.at_stage(config, -1), None
        if config.data.source == "scenes":
            console.print("judging the pictures of prompts that were not drawn so far ...")
            wanted, until = evaluation_prompts(config), None
            if has_deadline(config.budget):
                left = Deadline(run, state.config, ranks.world, STARTED).seconds_left()
                until = time.monotonic() + left - afterwards(state.durations, wanted)
            evaluation = evaluate_scenes(*state.drawing_networks(), config, run, ranks.drawers, until)
            if evaluation.pictures < wanted:
                console.print(f"note: there was time for {evaluation.pictures} of {wanted} prompts", highlight=False)
        if ranks.first:
            if evaluation is not None:
                log_score(state.config, run, state.step, evaluation.scores, console.print)
            print_report(console, config, run, evaluation.scores if evaluation is not None else {})


def run_sample(
    console: Console,
    run: Path,
    prompts: list[str],
    out: Path,
    drawing: Drawing,
) -> None:
    """`daybreak sample`: prompts to one PNG, drawn by a run, what export or shrink wrote of one, or a pipeline."""
    seed = drawing.seed or 0
    if is_pipeline(run):
        from daybreak.finetune.drawing import sample_pipeline

        written = _written_out(console, prompts, None if drawing.expand == "none" else drawing.expand, seed)
        pictures = sample_pipeline(run, written, drawing, pick_device())
        _save_sample(console, pictures, prompts, written, out)
        return
    transformer, text_encoder, config = open_model(run, pick_device())
    config = check_without_data(told(configs.at_stage(config, -1), drawing))
    written = _written_out(console, prompts, config.sample.expand, seed)
    config = configs.override(config, "sample.expand", "none")
    for prompt in written:
        if (cut := text_encoder.cut_off(prompt)) is not None:
            console.print(
                f"note: the prompt is longer than {text_encoder.max_tokens} tokens; not read: …{cut}", markup=False
            )
    pictures = generate(transformer, text_encoder, written, config, seed, drawing.size)
    _save_sample(console, pictures, prompts, written, out)


def _written_out(console: Console, prompts: list[str], expand: str | None, seed: int) -> list[str]:
    """The prompts as they are drawn; those that were written out are shown."""
    written = expanded(prompts, expand, seed, range(len(prompts)))
    for prompt, long in zip(prompts, written, strict=True):
        if long != prompt:
            console.print(f"{prompt}\n  drawn as: {long}", markup=False, highlight=False)
    return written


def _save_sample(console: Console, pictures: Tensor, prompts: list[str], written: list[str], out: Path) -> None:
    try:
        save_grid(pictures, prompts, out, parameters={"prompts": prompts, "drawn as": written})
    except OSError as e:
        raise ConfigError(f"--out {out} cannot be written: {e.strerror or e}") from None
    console.print(f"{len(prompts)} picture{'s' if len(prompts) > 1 else ''}: {out}", highlight=False)


def run_teach(console: Console, config: Config, out: Path, steps: int) -> None:
    """`daybreak teach`: a vision teacher of the pictures that `config` names, or of the embedded world."""
    source = open_source(config)
    console.print(source.describe())
    for item in getattr(source, "skipped", []):
        console.print(f"skipped: {item.path}: {item.reason}")
    teach(source, steps, out, config.train.seed, console.print)
    console.print(f"{out}: a run learns from it by --alignment.weight 0.5 --alignment.teacher {out}", soft_wrap=True)


def run_average(console: Console, run: Path, length: float, out: Path) -> None:
    """`daybreak average`: a run folder whose averaged weights have another length."""
    config = load_run_config(run, last_stage=False)
    folder = checkpoint.save_average(run, config, length, out)
    configs.save(config, out / "config.yaml")
    console.print(f"averaged over a relative length of {length:g}: {folder}", highlight=False)


def run_plan(
    console: Console,
    config: Config,
    text_tokens: int | None,
    gpu: str | None,
    node: int | None,
    calibration: Path | None,
    limits: Limits,
) -> None:
    """`daybreak plan`: a recipe's account; where anything is said of machines, time or money, what it takes on them."""
    from daybreak.plan.forecast import machines
    from daybreak.plan.show import show_forecast, show_plan

    show_plan(console, config, text_tokens)
    if limits == Limits() and (gpu, node, calibration) == (None, None, None):
        return
    on = machines(gpu or "h200", limits.gpus or 1, node, calibration)
    b = config.budget
    bounds = [] if b.hours is None else [b.hours]
    if b.usd is not None and b.price is not None:
        bounds.append(b.usd / (b.price * on.gpus))
    console.print()
    show_forecast(console, config, on, text_tokens, min(bounds) if bounds else None, b.price)


def print_report(console: Console, config: Config, run: Path, scores: Mapping[str, Any]) -> None:
    """Writes the run's report, and prints its `scores` on scenes, where there are any, and what is where."""
    report = write_report(run, config)
    if "overall" in scores:
        table = Table(title="prompts followed, in every attribute", title_justify="left", box=None, padding=(0, 2))
        table.add_column("task")
        table.add_column("share", justify="right")
        for name in TASKS:
            table.add_row(name, f"{scores[name]:.0%}")
        table.add_row("[bold]one and two objects[/bold]", f"[bold]{scores['one_and_two_objects']:.0%}[/bold]")
        table.add_row("[bold]held-out combinations[/bold]", f"[bold]{scores['held_out']:.0%}[/bold]")
        table.add_row("[bold]overall[/bold]", f"[bold]{scores['overall']:.0%}[/bold]")
        console.print(table)
        if "as_they_stand_overall" in scores:
            console.print(
                "prompts were written out before they were drawn; as they stand, one and two objects "
                f"{scores['as_they_stand_one_and_two_objects']:.0%}, held out {scores['as_they_stand_held_out']:.0%}",
                highlight=False,
            )
        right = [
            f"{title} {scores[k]:.0%}" for n, title in ATTRIBUTE_TITLES.items() if (k := f"attribute_{n}") in scores
        ]
        if right:
            console.print(f"right, where the prompt names it: {', '.join(right)}", highlight=False)
    left = Table(title="what it left", title_justify="left", box=None, padding=(0, 2), show_header=False)
    left.add_row("run folder", str(run))
    left.add_row("report", str(report))
    if "overall" in scores:
        left.add_row("grid", str(run / "grid.png"))
        left.add_row("failures", str(run / "failures.png") if (run / "failures.png").exists() else "none")
    left.add_row("TensorBoard", f"tensorboard --logdir {run / 'tensorboard'}")
    left.add_row("draw your own", f'daybreak sample {run} --prompt "{_example_prompt(config)}"')
    console.print(left, soft_wrap=True)


def _example_prompt(config: Config) -> str:
    return "a large red circle above a small blue square" if config.data.source == "scenes" else "your caption here"
