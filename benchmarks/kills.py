"""Does a run survive anything? Kills it at random with SIGKILL and compares what it leaves with an undisturbed run.

    python benchmarks/kills.py --minutes 30 --kills 20

Both runs take the same number of steps, as many as an undisturbed one takes in --minutes here. Ends with exit code 1
where the final weights, averages or losses differ in one bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file


def command(run: Path, steps: int, save_seconds: float) -> list[str]:
    """The same command begins a run and continues it."""
    settings = {"train.minutes": "none", "train.steps": steps, "train.save_minutes": save_seconds / 60,
                "train.sample_every": 0.25, "sample.steps": 4, "evaluate.prompts_per_task": 2}  # fmt: skip
    flags = [w for k, v in settings.items() for w in (f"--{k}", str(v))]
    return [sys.executable, "-m", "daybreak", "train", "scenes", "--out", str(run), "--resume", "auto", *flags]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Everything that the last checkpoint holds, by file and name."""
    (last,) = sorted((run / "checkpoints").glob("step-????????"))[-1:]
    return {f"{f.name}/{k}": v for f in sorted(last.rglob("*.safetensors")) for k, v in load_file(f).items()}


def losses(run: Path) -> list[tuple[int, float]]:
    """(step, loss) of each step."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(e["step"], e["loss"]) for e in events if e["event"] == "step"]


def steps_in(minutes: float, folder: Path) -> int:
    """How many steps an undisturbed run takes in so long, by the speed of its first ones."""
    subprocess.run(command(folder / "speed", 60, 1e6), check=True, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in (folder / "speed" / "log.jsonl").read_text().splitlines()]
    seconds = [e["seconds"] for e in events if e["event"] == "step"]
    return max(20, round(60 * minutes / ((seconds[-1] - seconds[9]) / (len(seconds) - 10))))


def main() -> int:
    """0 where nothing differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="Of the moments of the kills.")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = steps_in(arguments.minutes, folder)
        save_seconds = max(1.0, 60 * arguments.minutes / arguments.kills / 4)
        print(f"{steps} steps; a checkpoint every {save_seconds:.0f} s", flush=True)
        began = time.monotonic()
        subprocess.run(command(folder / "whole", steps, save_seconds), check=True, stdout=subprocess.DEVNULL)
        whole_seconds = time.monotonic() - began
        print(f"undisturbed: {whole_seconds:.0f} s", flush=True)
        run, kills, began = folder / "killed", 0, time.monotonic()
        while True:
            process = subprocess.Popen(command(run, steps, save_seconds), stdout=subprocess.DEVNULL)
            if kills == arguments.kills:
                if process.wait() != 0:
                    return 1
                break
            # Somewhere in the way that is left to the next kill, start-up and saving included.
            try:
                process.wait(rng.uniform(0.2, 1.8) * whole_seconds / arguments.kills + 5)
                break  # it finished before
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                log = run / "log.jsonl"
                print(f"kill {kills} after {len(losses(run)) if log.exists() else 0} logged steps", flush=True)
        print(f"with {kills} kills: {time.monotonic() - began:.0f} s", flush=True)
        a, b = weights(folder / "whole"), weights(run)
        same = a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
        same_losses = losses(folder / "whole") == losses(run)
        print(f"{len(a)} tensors equal to the bit: {same}; {steps} losses equal: {same_losses}")
    return 0 if same and same_losses else 1


if __name__ == "__main__":
    sys.exit(main())
