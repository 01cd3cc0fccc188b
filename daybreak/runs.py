"""What the commands do: run folders, in the order that a user meets them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from daybreak import STARTED
from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.data.open import open_source, with_data
from daybreak.data.scenes.world import TASKS
from daybreak.display import Display, duration
from daybreak.encoders.teach import RESOLUTION, make_room, teach
from daybreak.evaluate.expand import expanded
from daybreak.evaluate.generate import generate
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.report import write_report
from daybreak.evaluate.report_scenes import ATTRIBUTE_TITLES
from daybreak.evaluate.scoring import evaluate_scenes
from daybreak.export.open import is_pipeline
from daybreak.recipes import recipe as find_recipe
from daybreak.train import checkpoint
from daybreak.train.deadline import Deadline, Limits, afterwards, evaluation_prompts, has_deadline
from daybreak.train.distributed import processes
from daybreak.train.loop import log_score, pick_device, train


def run_demo(console: Console, minutes: float, out: Path | None) -> None:
    """`daybreak demo`: trains, draws, judges, and says where everything is."""
    name = "scenes-gpu" if pick_device().type == "cuda" else "scenes-demo"
    config = configs.override(find_recipe(name), "train.minutes", minutes)
    run = out or new_run_folder("demo")
    console.print(
        f"[bold]daybreak demo[/bold]: a text-to-image model of small scenes, from random weights, "
        f"{duration(60 * minutes)} of training at {config.data.resolution} px"
    )
    _train_and_report(console, config, run, resume=False)


def run_train(
    console: Console,
    arguments: list[str],
    data: list[str],
    out: Path | None,
    config_file: Path | None,
    resume: str | None,
    limits: Limits,
) -> None:
    """`daybreak train`: a recipe, or a run folder to continue, with settings over it.

    `arguments` holds the recipe's name and the settings. `resume` is a run folder or "auto": the run in `out`, or
    without a recipe the newest one in runs/, if it holds a checkpoint.
    """
    recipe, settings = parse_arguments(arguments)
    if resume == "auto":
        run = _run_to_continue(recipe, out)
    else:
        if (recipe is None) == (resume is None):
            raise ConfigError("say what to train: daybreak train RECIPE, or daybreak train --resume RUN")
        if resume is not None and out is not None:
            raise ConfigError("--out has no use beside --resume: a run is continued in its own folder")
        run = Path(resume) if resume is not None else None
    if run is not None:
        config = load_run_config(run, last_stage=False)
    else:
        assert recipe is not None
        config = find_recipe(recipe)
    if config_file is not None:
        config = configs.load(config_file, base=config)
    if data:
        config = with_data(config, data)
    config, note = limits.applied(config)
    for key, value in settings:
        config = configs.override(config, key, value)
    if note is not None:
        console.print(f"note: {note}", markup=False, highlight=False)
    _train_and_report(console, config, run or out or new_run_folder(recipe or ""), run is not None)


def _run_to_continue(recipe: str | None, out: Path | None) -> Path | None:
    """The run that --resume auto means; None where there is nothing to continue and a recipe to begin with."""
    if recipe is None:
        if out is not None:
            return out
        runs = [p for p in Path("runs").glob("*") if checkpoint.complete(p)]
        if not runs:
            raise ConfigError("--resume auto: no folder in runs/ holds a checkpoint, and no recipe says what to begin")
        return max(runs, key=lambda p: checkpoint.complete(p)[-1].stat().st_mtime)
    if out is None:
        raise ConfigError("--resume auto with a recipe needs --out RUN: the folder to continue, or to begin")
    return out if checkpoint.complete(out) else None


def _train_and_report(console: Console, config: Config, run: Path, resume: bool) -> None:
    configs.check(config)
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
    steps: int | None,
    guidance: float | None,
    seed: int,
    size: int | None,
    expand: str | None,
) -> None:
    """`daybreak sample`: prompts to one PNG. expand: as `sample.expand`; "none": not; None: as the run has it."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the grid is written as PNG, so the name should end in .png")
    if is_pipeline(run):
        from daybreak.finetune.drawing import sample_pipeline

        written = _written_out(console, prompts, None if expand == "none" else expand, seed)
        pictures = sample_pipeline(run, written, steps, guidance, seed, size, pick_device())
        _save_sample(console, pictures, prompts, written, out)
        return
    config = load_run_config(run)
    patch = config.model.patch
    if size is not None and size % patch:
        raise ConfigError(
            f"--size {size} does not divide by the run's patches of {patch} px; {size // patch * patch} does"
        )
    for key, value in (("sample.steps", steps), ("sample.guidance", guidance), ("sample.expand", expand)):
        config = config if value is None else configs.override(config, key, value)
    configs.check(config)
    transformer, text_encoder = checkpoint.load_averaged(run, config, pick_device())
    written = _written_out(console, prompts, config.sample.expand, seed)
    config = configs.override(config, "sample.expand", "none")
    for prompt in written:
        if (cut := text_encoder.cut_off(prompt)) is not None:
            console.print(
                f"note: the prompt is longer than {text_encoder.max_tokens} tokens; not read: …{cut}", markup=False
            )
    pictures = generate(transformer, text_encoder, written, config, seed, size)
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


def run_teach(
    console: Console, data: list[str], out: Path, resolution: int | None, steps: int, seed: int
) -> None:  # fmt: skip
    """`daybreak teach`: a vision teacher of the pictures in `data`, or of the embedded world."""
    if resolution is not None and not data:
        raise ConfigError(
            f"--resolution is for the pictures of --data; the embedded world is painted at {RESOLUTION} px"
        )
    make_room(out)
    config = configs.override(find_recipe("folder" if data else "scenes"), "train.seed", seed)
    if (side := resolution if data else RESOLUTION) is not None:
        config = configs.override(config, "data.resolution", side)
    if data:
        config = with_data(config, data)
    source = open_source(config)
    console.print(source.describe())
    for item in getattr(source, "skipped", []):
        console.print(f"skipped: {item.path}: {item.reason}")
    teach(source, steps, out, seed, console.print)
    console.print(f"{out}: a run learns from it by --alignment.weight 0.5 --alignment.teacher {out}", soft_wrap=True)


def run_average(console: Console, run: Path, length: float, out: Path) -> None:
    """`daybreak average`: a run folder whose averaged weights have another length."""
    config = load_run_config(run, last_stage=False)
    folder = checkpoint.save_average(run, config, length, out)
    configs.save(config, out / "config.yaml")
    console.print(f"averaged over a relative length of {length:g}: {folder}", highlight=False)


def run_plan(
    console: Console,
    arguments: list[str],
    text_tokens: int | None,
    gpu: str | None,
    node: int | None,
    calibration: Path | None,
    limits: Limits,
) -> None:
    """`daybreak plan`: a recipe's account; where anything is said of machines, time or money, what it takes on them."""
    from daybreak.plan.forecast import machines
    from daybreak.plan.show import show_forecast, show_plan

    _, _, config = named_recipe(arguments, limits, "say what to plan: daybreak plan RECIPE")
    if config.data.source == "folder" and config.data.folder is None:
        config = configs.override(config, "data.folder", "your pictures")  # not read here
    configs.check(config)
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


def list_settings(console: Console, recipe: str) -> None:
    """`daybreak settings`: every field of a recipe with its meaning."""
    config = find_recipe(recipe)
    for section, fields in configs.documented_fields(config):
        table = Table(
            title=section, title_justify="left", title_style="bold", box=None, padding=(0, 2), show_header=False
        )
        for name, value, meaning in fields:
            table.add_row(f"--{section}.{name}", f"[cyan]{value}[/cyan]", meaning)
        console.print(table)
        console.print()


def new_run_folder(name: str) -> Path:
    """runs/NAME-DATE-TIME, which does not exist yet."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def load_run_config(run: Path, last_stage: bool = True) -> Config:
    """The config that a run folder holds; ConfigError where it is no run folder.

    last_stage: with the last stage's settings, which are those to draw with; else as it was written.
    """
    if not run.is_dir():
        raise ConfigError(f"{run}: no such run folder")
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run} is no run folder: it holds no config.yaml")
    config = configs.check(configs.load(run / "config.yaml"))
    return configs.at_stage(config, -1) if last_stage else config


def parse_arguments(arguments: list[str]) -> tuple[str | None, list[tuple[str, str]]]:
    """["scenes", "--a.b", "1", "--c.d=2"] -> ("scenes", [("a.b", "1"), ("c.d", "2")]).

    Raises ConfigError for a second name and for a setting without a value.
    """
    names, pairs = split_arguments(arguments)
    if len(names) > 1:
        raise ConfigError(f"unexpected argument {names[1]!r}; settings look like --train.minutes 20")
    return (names[0] if names else None), pairs


def named_recipe(arguments: list[str], limits: Limits, missing: str) -> tuple[str, list[tuple[str, str]], Config]:
    """The recipe that `arguments` begin with, the settings they hold, and the run that both and `limits` describe.

    Raises ConfigError, which says `missing`, where no recipe is named.
    """
    name, settings = parse_arguments(arguments)
    if name is None:
        raise ConfigError(missing)
    config, _ = limits.applied(find_recipe(name))
    for key, value in settings:
        config = configs.override(config, key, value)
    return name, settings, config


def split_arguments(arguments: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """As `parse_arguments`, for any number of names."""
    names, pairs, rest = [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            names.append(word)
            continue
        key, equals, value = word[2:].partition("=")
        if not equals:
            configs.check_name(key)
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{key} needs a value")
            value = rest.pop(0)
        pairs.append((key, value))
    return names, pairs


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
