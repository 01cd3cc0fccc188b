"""Runs of several processes: real ones, under torchrun, over gloo."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from daybreak.cli import app
from tests.waiting import LONG

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "data.resolution": 32, "model.patch": 4, "text.width": 32, "text.heads": 2, "text.depth": 1, "model.width": 32,
    "model.depth": 3, "model.heads": 2, "train.minutes": "none", "train.batch": 8, "optim.warmup_steps": 2,
    "optim.decay_share": 0.5, "sample.steps": 2, "evaluate.prompts_per_task": 1, "evaluate.held_out_prompts": 3,
    "train.sample_every": 1.0, "evaluate.grid_prompts": "a red circle", "model.bottleneck": 7, "routing.keep": 0.5,
    "routing.start": 1,
    "train.precision": "float32",  # whatever this CPU multiplies: sums in another order are compared
}  # fmt: skip


def command(run: Path, processes: int, *words: str, restarts: int = 0, **settings: object) -> list[str]:
    """daybreak train scenes, on so many processes."""
    options = {**SETTINGS, **{k.replace("__", "."): v for k, v in settings.items()}}
    flags = [f"--{k}={v}" for k, v in options.items()]
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
        launcher += [f"--max-restarts={restarts}", "--monitor-interval=0.2", "-m"]
    return [*launcher, "daybreak", "train", "scenes", "--out", str(run), *flags, *words]


def environment() -> dict[str, str]:
    """One thread a process, this checkout."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def trained(run: Path, processes: int, *words: str, **settings: object) -> Path:
    """The folder of a run that ended well. One process alone is this one: another takes seconds to start."""
    words = tuple(command(run, processes, *words, **settings))
    if processes == 1:
        result = CliRunner().invoke(app, words[words.index("train") :])
        assert result.exit_code == 0, (result.exception, result.output[-3000:])
        return run
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return run


def events(run: Path, kind: str = "step") -> list[dict]:
    """The events of a run's log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [e for e in lines if e["event"] == kind]


def losses(run: Path) -> list[float]:
    """The loss of each step."""
    return [e["loss"] for e in events(run)]


def stop(process: subprocess.Popen) -> None:
    """SIGKILL to a process and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
