"""A training step of `scenes-demo` beside another checkout of this project, in turns; and whether losses are the same.

    git worktree add ../baseline f341038
    python benchmarks/step_baseline.py --baseline ../baseline                  # the baseline's own settings, on both
    python benchmarks/step_baseline.py --baseline ../baseline --threads 1 --precision float32

Both train at the settings that the recipe has in the baseline, one process each, which take turns of some steps. With
one thread CPU time counts, which other work on the machine changes less. Losses are those that `daybreak train` logs,
in float32, where rounding is small.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SAVE = "import sys; from daybreak import config; from daybreak.recipes import recipe; from pathlib import Path;" \
       "config.save(recipe('scenes-demo'), Path(sys.argv[1]))"  # fmt: skip
WORKER = """
import json, sys, time
from dataclasses import replace
from itertools import cycle
from pathlib import Path
import torch
from daybreak import config
from daybreak.parallel import pick_device
from step_time import whole_step
from workload import batches, open_state
torch.set_num_threads(int(sys.argv[2]))
c = config.load(Path(sys.argv[1]))
c = replace(c, train=replace(c.train, precision=sys.argv[3]))
state = open_state(c, pick_device())
if hasattr(state, "prepare"):
    state.prepare()
else:
    from daybreak.train.loop import _prepare
    _prepare(state, c)
work = cycle(batches(c, 8, (3, 20)))
print(c.train.batch, flush=True)
for line in sys.stdin:
    began = time.perf_counter(), time.process_time()
    for _ in range(int(line)):
        whole_step(state, c, next(work))
    print(json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]), flush=True)
"""


def environment(tree: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{tree}:{tree / 'benchmarks'}"}


class Worker:
    """A process that trains with one checkout's code, some steps whenever it is told to."""

    def __init__(self, tree: Path, settings: Path, threads: int, precision: str) -> None:
        words = [sys.executable, "-W", "ignore", "-c", WORKER, str(settings), str(threads), precision]
        self.process = subprocess.Popen(
            words, cwd=tree, env=environment(tree), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.batch = int(self._answer())

    def steps(self, n: int) -> tuple[float, float]:
        """Seconds and CPU seconds of a step, the mean of n."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        wall, cpu = json.loads(self._answer())
        return wall / n, cpu / n

    def _answer(self) -> str:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"{self.process.args} ended with {self.process.wait()}")
        return line

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def losses(tree: Path, settings: Path, steps: int, folder: Path) -> list[float]:
    """Of each step of `daybreak train`."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    words = ["train", "scenes", "--config", str(settings), "--train.minutes", "none", "--train.steps", str(steps)]
    words += ["--train.precision", "float32", "--evaluate.prompts_per_task", "1", "--evaluate.held_out_prompts", "1"]
    words += ["--train.sample_every", "1", "--out", str(run)]
    subprocess.run(
        [sys.executable, "-m", "daybreak", *words], cwd=tree, env=environment(tree), check=True, capture_output=True
    )
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line.get("event") == "step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, required=True, help="another checkout of this project")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="in a turn")
    parser.add_argument("--losses", type=int, default=50, help="steps whose losses are compared; 0: none")
    options = parser.parse_args()
    trees = {"baseline": options.baseline.resolve(), "now": HERE}
    with tempfile.TemporaryDirectory() as work:
        folder, settings = Path(work), Path(work) / "settings.yaml"
        subprocess.run(
            [sys.executable, "-c", SAVE, str(settings)],
            cwd=trees["baseline"],
            env=environment(trees["baseline"]),
            check=True,
        )
        workers = {name: Worker(tree, settings, options.threads, options.precision) for name, tree in trees.items()}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
        for number in range(options.rounds + 1):
            for name in list(workers)[:: 1 if number % 2 else -1]:
                times[name].append(workers[name].steps(options.steps))
        print("| | ms a step | CPU ms a step | images/s |\n|---|---|---|---|")
        counted = 1 if options.threads == 1 else 0
        for name, worker in workers.items():
            worker.close()
            del times[name][0]  # warms up
            wall, cpu = (1e3 * statistics.median(t[i] for t in times[name]) for i in range(2))
            print(f"| {name} | {wall:.1f} | {cpu:.1f} | {1e3 * worker.batch / (cpu if counted else wall):.0f} |")
        ratios = [a[counted] / b[counted] for a, b in zip(times["baseline"], times["now"], strict=True)]
        print(f"\n**{statistics.median(ratios):.2f} x** the baseline's speed (least and most of a round: "
              f"{min(ratios):.2f}..{max(ratios):.2f}), {options.threads} threads, {options.precision}.")  # fmt: skip
        if options.losses:
            first, second = (losses(tree, settings, options.losses, folder) for tree in trees.values())
            apart = max(abs(a - b) / abs(a) for a, b in zip(first, second, strict=True))
            print(f"Losses of {len(first)} steps in float32 differ by at most {apart:.1e} of their value.")


if __name__ == "__main__":
    main()
