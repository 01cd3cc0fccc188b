"""What `daybreak finetune` does, in the order in which a user sees it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import torch
from rich.console import Console

import daybreak
from daybreak.checkpoint_files import complete
from daybreak.commands.find_rate import FINDING, find_rate
from daybreak.commands.finetune_own import resume_own
from daybreak.config import ConfigError
from daybreak.data.changes import save_checks
from daybreak.data.inspect.page import print_report, write_page
from daybreak.display import Display
from daybreak.evaluate.report_terminal import print_next
from daybreak.evaluate.request import parse_weights
from daybreak.files import make_folder
from daybreak.finetune import settings as settings_file
from daybreak.finetune.asked import check_run_folder, is_own_run, resumed
from daybreak.finetune.memory import GIB, Plan
from daybreak.finetune.opening import PICTURES, absolute, changed_data, open_data, open_trainee, plan_of, write_skipped
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.report import figures, make_report, summary
from daybreak.finetune.result import save_result
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.trainee import Diffusers, loop_config
from daybreak.parallel import PATIENCE, pick_device
from daybreak.phases import phase
from daybreak.run_folder import REPORT, new_run_folder
from daybreak.run_requests import judging
from daybreak.tables import print_facts, print_table
from daybreak.terminal import progress_bar
from daybreak.train import checkpoint
from daybreak.train.bell import Bell
from daybreak.train.distributed import processes
from daybreak.train.loop import log_score, train_on
from daybreak.train.trackers import check_trackers
from daybreak.watch.report import Reporter, write_report

SHAPES_SHOWN = 12
"""The fullest; the others are added up."""


def run_finetune(
    console: Console,
    settings: FinetuneSettings,
    out: Path | None,
    resume: bool = False,
    find_lr: bool = False,
    data_changed: bool = True,
    bell: str | None = None,
) -> Diffusers:
    """Plan, data, training, result, report; returns the trainee as training left it.

    find_lr: finds a learning rate in place of training.
    bell: what rings (train/bell.py).
    ConfigError for a user's mistake, TrainingError where the run cannot go on.
    """
    settings = absolute(settings)
    loop = loop_config(settings, 1, settings.batch)
    with processes(loop, PATIENCE, "--batch") as ranks, Bell(bell, console) as ringing:
        goal = out or new_run_folder("finetune")
        folder = goal / FINDING if find_lr else goal
        if ranks.first:
            ringing.begin(goal)
        else:
            console = Console(quiet=True)
        if ranks.world > 1 and out is None:
            raise ConfigError("several processes need the name of their run folder: give --out")
        if not resume:
            check_run_folder(goal)
        ranks.wait()  # all have seen the folder empty
        parse_weights(list(settings.metric_weights))  # refuses before anything long begins
        check_trackers(settings.trackers, Diffusers.asks_for_trackers, ranks.first)
        with phase("loading the base"):
            base = open_prepared(settings, pick_device())
        plan = plan_of(base)
        print_plan(console, plan, base.device, base.dtype)
        data, report = None, None
        if not resume or not (folder / "cache" / "index.json").is_file():
            pictures, prior, report = open_data(base)
            data = pictures, prior
            print_report(report, console)
        if ranks.first:
            if find_lr:
                shutil.rmtree(folder, ignore_errors=True)  # of a search that was interrupted
            make_folder(folder, "the run folder")
            settings_file.save(settings, folder)
            if data is not None and report is not None:
                write_page(report, folder / "data.html")
                write_skipped(folder, data[0].skipped + (data[1].skipped if data[1] else []))
            if resume and (told := changed_data(settings, folder, None if data is None else data[0])) is not None:
                if data is not None and not data_changed:
                    raise ConfigError(f"{told}: put them back, or go on with what is there now by --data-changed")
                kept = "those it began with, which it keeps" if data is None else "what is there now"
                console.print(f"note: {told}; it goes on with {kept}", markup=False, highlight=False)
            if data is not None:
                save_checks(folder / PICTURES, data[0].checks)
        with progress_bar(console) as bar:
            task = bar.add_task("caching", total=None, note="")
            run = open_trainee(
                base, plan, data, folder, ranks,
                lambda what, done, of: bar.update(task, description=f"caching {what}", completed=done, total=of),
            )  # fmt: skip
        print_shapes(console, run)
        if find_lr:
            rate = settings.learning_rate
            find_rate(console, run, ranks, goal, rate, lambda factor: f"--lr {rate * factor:.2g}")
            ranks.wait()
            if ranks.first:
                shutil.rmtree(folder)
            return run
        with Display(console) as display:
            display.on_note(
                f"trained at {settings.learning_rate:g}; {run.config.train.steps} steps of {settings.batch} "
                f"({run.config.train.microbatch} at once)"
            )
            if goes_on := bool(complete(folder)):  # else it ended before its first checkpoint, and begins anew
                if (checkpoint.newest(folder) / "trained.safetensors").is_file():
                    raise ConfigError(
                        f"{folder} was begun by an earlier version and cannot be continued; its result can be used"
                    )
                checkpoint.restore(run, checkpoint.newest_good(folder, display.on_note))
            train_on(
                run, folder, [display, Reporter(folder, display.on_note), ringing], goes_on, ranks, daybreak.STARTED
            )
        if run.progress >= 1:
            if run.sharded:
                base.gather()
            if ranks.first:
                _finish(console, run)
        ranks.wait()
        return run


def resume_finetune(
    console: Console, resume: Path, data_changed: bool = True, asked: FinetuneSettings | None = None,
    bell: str | None = None,
) -> None:  # fmt: skip
    """Goes on with a run; asked: what is other now (asked.py says what may be)."""
    asked = asked or FinetuneSettings()
    if is_own_run(resume):
        resume_own(console, resume, data_changed, asked, bell)
    else:
        settings = resumed(settings_file.load(resume), asked)
        run_finetune(console, settings, resume, True, data_changed=data_changed, bell=bell)


def _finish(console: Console, run: Diffusers) -> None:
    result = save_result(run.base, run.folder)
    settings = run.settings
    if settings.report:
        weights = parse_weights(list(settings.metric_weights))
        tell = lambda line: console.print(line, markup=False, highlight=False)  # noqa: E731
        with phase("comparing with the base"), judging(run.folder):
            make_report(run, weights, settings.report_pictures, tell)
        log_score(run.config, run.folder, run.step, figures(run.folder), tell, Diffusers, REPORT)
        for line in summary(run.folder):
            console.print(f"- {line}", markup=False, highlight=False)
    write_report(run.folder)  # the log of the whole run, and its score
    files = [
        ("run folder", str(run.folder)),
        ("result", str(result)),
        ("report", str(run.folder / "report.html")),
        ("data", str(run.folder / "data.html")),
    ]
    print_facts(console, files, "output files", whole=True)
    print_next(console, run.folder, run.prompts[0][:60])


def print_shapes(console: Console, run: Diffusers) -> None:
    """How full each shape of the training pictures is, and what becomes of those that are left over."""
    cache, own = run.cache, run.order.own
    count = Counter(cache.at[n][0] for n in cache.training)
    if len(count) == 1:
        width, height = cache.shapes[next(iter(count))]
        console.print(f"all {len(cache.training)} training pictures are {width}x{height} px", highlight=False)
        return
    fullest = count.most_common()
    cells = [["{}x{}".format(*cache.shapes[n]), *map(str, (k, *divmod(k, own)))] for n, k in fullest[:SHAPES_SHOWN]]
    if rest := [k for _, k in fullest[SHAPES_SHOWN:]]:
        sums = sum(rest), sum(k // own for k in rest), sum(k % own for k in rest)
        cells.append([f"{len(rest)} more", *map(str, sums)])
    columns = ("px", "pictures", f"batches of {own}", "left over")
    print_table(console, columns, cells, "shapes of the training pictures")
    if left := sum(pictures % own for pictures in count.values()):
        small = sum(pictures < own for pictures in count.values())
        thin = f"; {small} of {len(count)} shapes have fewer pictures than a batch" if small else ""
        console.print(
            f"each epoch {left} pictures make up batches of several shapes: each keeps its own, counts alike, and goes "
            f"through the network with others of that shape{thin}",
            highlight=False,
        )


def print_plan(console: Console, plan: Plan, device: torch.device, dtype: torch.dtype) -> None:
    """What goes where in memory."""
    rows = [(name, f"{count / GIB:.2f} GiB") for name, count in plan.parts]
    rows.append(("[bold]together[/bold]", f"[bold]{plan.step / GIB:.2f} GiB[/bold]"))
    gpu = device.type == "cuda"
    if gpu:
        rows.append(("while samples are drawn", f"{plan.drawing / GIB:.2f} GiB"))
    what = torch.cuda.get_device_name(device) if gpu else "this machine"
    rows.append((f"there is, on {what}", f"{plan.available / GIB:.2f} GiB"))
    rows += [(f"in main memory: {name}", f"{count / GIB:.2f} GiB") for name, count in plan.elsewhere]
    print_table(console, ("memory plan", ""), rows)
    mode = ", activations recomputed in the backward pass" if plan.recompute else ""
    fits = "" if plan.fits else "; it does NOT fit: lower --micro-batch, or leave it to the plan"
    console.print(
        f"{plan.at_once} pictures at once in {str(dtype).removeprefix('torch.')}{mode}{fits}", highlight=False
    )
