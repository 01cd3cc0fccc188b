"""`daybreak launch`: checks the run as `daybreak train` would, writes the job, and submits it where asked to."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from daybreak import config as configs
from daybreak.arguments import named_recipe
from daybreak.config import BudgetConfig, ConfigError
from daybreak.config.fields import as_words
from daybreak.data.listing import check_place, with_data
from daybreak.launch.settings import LaunchSettings
from daybreak.launch.write import FORMS, SUBMIT, Job


def run_launch(
    console: Console, arguments: list[str], settings: LaunchSettings, limits: BudgetConfig, data: list[str], out: Path,
    bell: str | None = None,
) -> int:  # fmt: skip
    """Writes the job, which rings `bell`, and returns the exit code of its submission, or 0.

    Raises ConfigError for a wrong recipe or setting, a batch that does not divide over the processes, and where the
    command that submits is not installed.
    """
    missing = "say what to train: daybreak launch RECIPE --out RUN"
    name, overrides, config = named_recipe(arguments, limits, missing)
    for place in data:
        check_place(place)
    if data:
        config = with_data(config, data)
    s, processes = settings, settings.nodes * settings.gpus
    for i in range(max(1, len(config.stages))):
        batch = configs.at_stage(config, i).train.batch
        if batch % processes:
            near = max(1, round(batch / processes)) * processes
            raise ConfigError(f"train.batch {batch} does not divide over {processes} GPUs; {near} would")
    if s.to == "kubernetes" and s.image is None:
        raise ConfigError("--to kubernetes needs --image: a container image that holds daybreak")
    words = [name, *(w for d in data for w in ("--data", d)), "--out", str(out), "--resume", "auto"]
    words += ["--bell", bell] if bell is not None else []
    words += [*as_words(limits), *(f"--{key}={value}" for key, value in overrides)]
    minutes = round(60 * limits.hours) + 10 if limits.hours is not None else None
    job_name = re.sub(r"[^a-z0-9-]+", "-", out.name.lower()).strip("-") or "run"
    job = Job(**asdict(s), name=job_name, words=words, minutes=minutes)
    write, suffix = FORMS[s.to]
    path = s.file or Path(f"{job.name}-{s.to}{suffix}")
    text = write(job)
    try:
        if path.exists() and path.read_text(errors="replace") != text:
            raise ConfigError(f"{path} exists and says something else; delete it, or write another with --file")
        path.write_text(text)
    except OSError as e:
        raise ConfigError(f"--file {path} cannot be written: {e.strerror}") from None
    command = [*SUBMIT[s.to], str(path)]
    console.print(f"{s.nodes} x {s.gpus} GPUs: {path}", highlight=False, markup=False)
    if not s.submit:
        console.print(f"start it with: {' '.join(command)}", highlight=False, markup=False)
        return 0
    if shutil.which(command[0]) is None:
        raise ConfigError(f"--submit: {command[0]} is not installed here; {path} is written")
    return subprocess.run(command).returncode
