"""`daybreak launch`: checks the run as `daybreak train` would, writes the job, and submits it where asked to."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from rich.console import Console

from daybreak import config as configs
from daybreak.arguments import named_recipe
from daybreak.config import ConfigError
from daybreak.launch.write import FORMS, SUBMIT, Job
from daybreak.train.deadline import Limits, parse_hours


def run_launch(
    console: Console, arguments: list[str], data: list[str], out: Path, to: str, nodes: int, gpus: int,
    limits: Limits, image: str | None, accelerator: str, file: Path | None, submit: bool,
) -> int:  # fmt: skip
    """Writes the job for `to`, one of launch.write.FORMS, and returns the exit code of its submission, or 0.

    Raises ConfigError for a wrong recipe or setting, a batch that does not divide over the processes, and where the
    command that submits is not installed.
    """
    missing = "say what to train: daybreak launch RECIPE --out RUN"
    name, settings, config = named_recipe(arguments, limits, missing)
    processes = nodes * gpus
    for i in range(max(1, len(config.stages))):
        batch = configs.at_stage(config, i).train.batch
        if batch % processes:
            near = max(1, round(batch / processes)) * processes
            raise ConfigError(f"train.batch {batch} does not divide over {processes} GPUs; {near} would")
    if to == "kubernetes" and image is None:
        raise ConfigError("--to kubernetes needs --image: a container image that holds daybreak")
    words = [name, *(w for d in data for w in ("--data", d)), "--out", str(out), "--resume", "auto"]
    for flag, text in (("deadline", limits.deadline), ("budget", limits.budget), ("price", limits.price)):
        words += [f"--{flag}", text] if text is not None else []
    words += [f"--{key}={value}" for key, value in settings]
    minutes = round(60 * parse_hours(limits.deadline)) + 10 if limits.deadline is not None else None
    job = Job(re.sub(r"[^a-z0-9-]+", "-", out.name.lower()).strip("-") or "run", words, nodes, gpus, minutes, image,
              accelerator)  # fmt: skip
    write, suffix = FORMS[to]
    path = file or Path(f"{job.name}-{to}{suffix}")
    text = write(job)
    try:
        if path.exists() and path.read_text(errors="replace") != text:
            raise ConfigError(f"{path} exists and says something else; delete it, or write another with --file")
        path.write_text(text)
    except OSError as e:
        raise ConfigError(f"--file {path} cannot be written: {e.strerror}") from None
    command = [*SUBMIT[to], str(path)]
    console.print(f"{nodes} x {gpus} GPUs: {path}", highlight=False, markup=False)
    if not submit:
        console.print(f"start it with: {' '.join(command)}", highlight=False, markup=False)
        return 0
    if shutil.which(command[0]) is None:
        raise ConfigError(f"--submit: {command[0]} is not installed here; {path} is written")
    return subprocess.run(command).returncode
