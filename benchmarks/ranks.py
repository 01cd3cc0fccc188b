"""What a training step costs on 1, 2 and 4 processes: the same batch, shared out over ranks.

    python benchmarks/ranks.py                                           # CPU processes, one thread each, over gloo
    python benchmarks/ranks.py --ranks 1,2,4,8 --recipe scenes-gpu       # GPUs of one machine, over NCCL

Wall time is the median of a run's steps. CPU time is that of all processes together: the difference of a long run and a
short one, so that starting and evaluating drop out. What it grows by is what working together costs: gathering weights,
adding gradients up, moving Muon's matrices, and waiting, since gloo waits at work.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from cost_growth import numbers
from machine import record

from daybreak.parallel import pick_device

SHORT = 5
"""Steps of the run that is subtracted; also how many of a run's first steps are left out of the median."""


def run(folder: Path, recipe: str, ranks: int, steps: int, settings: list[str]) -> tuple[float, float, float]:
    """(wall seconds a step, CPU seconds of all processes, most memory of one, GiB) of a run of so many steps."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    options = {"train.minutes": "none", "train.steps": steps, "train.sample_every": 1.0, "sample.steps": 1,
               "evaluate.prompts_per_task": 1, "evaluate.held_out_prompts": 3, "evaluate.grid_prompts": "a red circle",
               "optim.decay_share": 0.0}  # fmt: skip
    flags = [f"--{k}={v}" for k, v in options.items()]
    out = folder / f"{ranks}-{steps}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [*launcher, "daybreak", "train", recipe, "--out", str(out), *flags, *settings]
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if not torch.cuda.is_available() else {})
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    moments = [e["seconds"] for e in events if e["event"] == "step"][SHORT - 1 :]
    wall = statistics.median(b - a for a, b in pairwise(moments)) if len(moments) > 1 else 0.0
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss / 2**20


def main() -> None:
    """Prints a row for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=numbers, default=[1, 2, 4])
    parser.add_argument("--recipe", default="scenes")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--no-append", action="store_true", help="print only; RESULTS.md stays as it is")
    options, settings = parser.parse_known_args()
    settings.append(f"--train.batch={options.batch}")
    device = pick_device()
    lines = [
        f"Recipe `{options.recipe}` {' '.join(settings)}, {options.steps} steps, {os.cpu_count()} CPU cores.",
        "",
        "| processes | ms a step | images/s | CPU ms a step, all together | to one process | peak GiB of one |",
        "|---|---|---|---|---|---|",
    ]
    first: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        for ranks in options.ranks:
            _, short, _ = run(Path(folder), options.recipe, ranks, SHORT, settings)
            wall, long, memory = run(Path(folder), options.recipe, ranks, options.steps, settings)
            cpu = (long - short) / (options.steps - SHORT)
            first = first or cpu
            lines.append(
                f"| {ranks} | {1e3 * wall:.0f} | {options.batch / wall:.1f} | {1e3 * cpu:.0f} | {cpu / first:.2f} "
                f"| {memory:.2f} |"
            )
    record("What ranks cost", lines, device, not options.no_append)


if __name__ == "__main__":
    main()
