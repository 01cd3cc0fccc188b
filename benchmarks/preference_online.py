"""Whether a judge is learnt from online (Flow-GRPO), what that costs, and what plain training brings in the same time.

    python benchmarks/preference_online.py RUN --expand none     prompts as they stand

As benchmarks/preference.py, whose rows these are beside: over three seeds, times are CPU time of training alone, rows
are appended to benchmarks/preference.jsonl. RUN is a run on scenes, which should be in the middle of learning.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import torch
from preference import CPU, LOG, begin, scored, trained_plainly

from daybreak.config import Config, override
from daybreak.evaluate.composition import held_out_prompts, prompts_of_tasks, see_all
from daybreak.evaluate.judge import share_right
from daybreak.formats.open import open_model
from daybreak.model_folder import model_folder
from daybreak.prefer.opening import open_own
from daybreak.prefer.settings import PreferSettings
from daybreak.sampling.generate import generate
from daybreak.train.loop import train_on


def measured(networks: tuple, config: Config) -> dict[str, float]:
    """`scored`; the judge's mean on the evaluation's prompts; how much two pictures of a prompt differ."""
    e = config.evaluate
    prompts = prompts_of_tasks(e.prompts_per_task, e.seed) + held_out_prompts(e.held_out_prompts, e.seed)
    first, second = (generate(*networks, [p.text for p in prompts], config, e.seed + k) for k in (0, 1))
    shares = [share_right(seen, p.spec) for seen, p in zip(see_all(first), prompts, strict=True)]
    spread = float((first - second).square().mean(dim=(1, 2, 3)).sqrt().mean())
    return {"judge": sum(shares) / len(shares), "diversity": spread} | scored(networks, config)


def learnt(run: Path, seed: int, work: Path, asked: argparse.Namespace) -> list[dict]:
    """Rows of a seed: as it was, learnt online, and trained on for the same time."""
    *before, config = open_model(run, CPU)
    changes = {"sample.expand": asked.expand, "evaluate.prompts_per_task": asked.prompts_per_task}
    for key, value in changes.items():
        config = config if value is None else override(config, key, value)
    common = {"what": "online", "run": run.name, "seed": seed, "expand": config.sample.expand}
    rows = [common | {"way": "as it was"} | measured(tuple(before), config)]
    settings = PreferSettings(
        run=str(run), judge="scenes", online=True, expand=asked.expand, method=asked.method, steps=asked.steps,
        lr=asked.lr, kl=asked.kl, clip=asked.clip, noise=asked.noise, batch=asked.batch, pictures=asked.pictures,
        draw_steps=asked.draw_steps, stochastic=asked.stochastic, guidance=asked.guidance, seed=seed, held_out=8,
    )  # fmt: skip
    settings, folder = begin(settings, work / "run"), work / "run"
    trainee = open_own(settings, folder, print)
    began = time.process_time()
    train_on(trainee, folder, [])
    seconds = time.process_time() - began
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rewards = [e["terms"]["reward"] for e in log if e["event"] == "step"]
    told = {k: getattr(asked, k) for k in ("method", "steps", "lr", "kl", "batch", "pictures", "guidance")}
    drawn = asked.batch * asked.pictures * -(-asked.steps // asked.stochastic)
    online = {"way": "online", "cpu_seconds": round(seconds, 1), "pictures_judged": drawn} | told
    online["rewards"] = [round(sum(part) / len(part), 4) for part in tenths(rewards)]
    rows.append(common | online | measured(trainee.drawing_networks(), config))
    for dense in [None, 0.0] if asked.plain else []:
        name = "plain training" if dense is None else "plain training, short captions"
        pixel, steps, took = trained_plainly(run, config, seed, dense, seconds, work)
        plain = {"way": name, "cpu_seconds": round(took, 1), "steps": steps}
        rows.append(common | plain | measured(pixel.drawing_networks(), config))
    return rows


def tenths(values: list[float]) -> list[list[float]]:
    """In ten parts, one after another."""
    n = max(1, len(values) // 10)
    return [values[i : i + n] for i in range(0, len(values), n)]


def main() -> None:
    """Runs what is asked for, and prints a line a row."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--expand", default=None)
    parser.add_argument("--method", default="text")
    parser.add_argument("--prompts-per-task", type=int, default=None)
    parser.add_argument("--no-plain", dest="plain", action="store_false")
    for name, default in (("steps", 400), ("batch", 8), ("pictures", 8), ("draw-steps", 8), ("stochastic", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("lr", None), ("kl", 0.0), ("clip", 1e-5), ("noise", 0.7), ("guidance", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    asked = parser.parse_args()
    for seed in map(int, asked.seeds.split(",")):
        work = Path(tempfile.mkdtemp(prefix="preference-"))
        try:
            rows = learnt(model_folder(asked.run).resolve(), seed, work, asked)
        finally:
            shutil.rmtree(work)
        with LOG.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        for row in rows:
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
