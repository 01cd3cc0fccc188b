"""Whether a judge is learnt from online (Flow-GRPO), what that costs, and what plain training brings in the same time.

    python benchmarks/preference_online.py RUN --expand none     prompts as they stand

As benchmarks/preference.py, whose rows these are beside: over three seeds, times are CPU time of training alone, rows
are appended to benchmarks/preference.jsonl. RUN is a run on scenes, which should be in the middle of learning.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from preference import CPU, begin, over_seeds, trained_plainly

from daybreak.ablate.frechet import frechet_on_scenes
from daybreak.config import Config, override
from daybreak.data.scenes.source import ScenesSource
from daybreak.data.scenes.world import TASKS
from daybreak.evaluate.composition import judge_all, prompts_of_tasks, score_attributes, see_all
from daybreak.evaluate.judge import share_right
from daybreak.formats.open import open_model
from daybreak.model_folder import model_folder
from daybreak.prefer.opening import open_own
from daybreak.prefer.prompts import evaluation_prompts
from daybreak.prefer.settings import PreferSettings
from daybreak.sampling.generate import generate
from daybreak.train.loop import train_on

FRECHET_PICTURES = 200


def measured(networks: tuple, config: Config, kinds: Sequence[str]) -> dict[str, float]:
    """Of the evaluation's prompts of `kinds`, which are not learnt from: the judge's mean, the share followed, those of
    attributes; how much two pictures of a prompt differ; the Fréchet distance over all kinds of scenes."""
    e = config.evaluate
    prompts = [p for p in prompts_of_tasks(e.prompts_per_task, e.seed) if p.spec.task in kinds]
    first, second = (generate(*networks, [p.text for p in prompts], config, e.seed + k) for k in (0, 1))
    seen = see_all(first)
    shares = [share_right(s, p.spec) for s, p in zip(seen, prompts, strict=True)]
    spread = float((first - second).square().mean(dim=(1, 2, 3)).sqrt().mean())
    found = {"prompts": len(prompts), "judge": sum(shares) / len(shares)}
    found["followed"] = sum(judge_all(prompts, seen)) / len(prompts)
    found |= score_attributes(prompts, seen)
    return found | {"diversity": spread, "frechet": frechet_on_scenes(*networks, config, FRECHET_PICTURES)[0]}


def captions_of(kinds: Sequence[str], config: Config, evaluated: set[str], file: Path) -> Path:
    """A file of training captions of `kinds`, short, without the evaluation's."""
    weights = tuple(float(task in kinds) for task in TASKS)
    known = ScenesSource(config.data.resolution, config.train.seed, weights).some_captions(4000)
    file.write_text("\n".join(c for c in dict.fromkeys(known) if c not in evaluated))
    return file


def learnt(run: Path, seed: int, work: Path, asked: argparse.Namespace) -> list[dict]:
    """Rows of a seed: as it was, learnt online, and trained on for the same time."""
    *before, config = open_model(run, CPU)
    e = asked.prompts_per_task
    changes = {
        "sample.expand": asked.expand, "sample.steps": asked.measure_steps, "evaluate.prompts_per_task": e,
    }  # fmt: skip
    for key, value in changes.items():
        config = config if value is None else override(config, key, value)
    kinds = asked.kinds.split(",")
    evaluated = set(evaluation_prompts(config))
    captions = captions_of(kinds, config, evaluated, work / "captions.txt")
    common = {"kinds": asked.kinds, "what": "online", "run": run.name, "seed": seed, "expand": config.sample.expand}
    rows = [common | {"way": "as it was"} | measured(tuple(before), config, kinds)] if asked.before else []
    settings = PreferSettings(
        run=str(run), judge="scenes", online=True, captions=str(captions), expand=asked.expand,
        method=asked.method, steps=asked.steps,
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
    rows.append(common | online | measured(trainee.drawing_networks(), config, kinds))
    for dense in {"none": [], "same": [None], "both": [None, 0.0]}[asked.plain]:
        name = "plain training" if dense is None else "plain training, short captions"
        pixel, steps, took = trained_plainly(run, config, seed, dense, seconds, work)
        plain = {"way": name, "cpu_seconds": round(took, 1), "steps": steps}
        rows.append(common | plain | measured(pixel.drawing_networks(), config, kinds))
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
    parser.add_argument("--kinds", default=",".join(TASKS))
    parser.add_argument("--prompts-per-task", type=int, default=None)
    parser.add_argument("--measure-steps", type=int, default=None)
    parser.add_argument("--no-before", dest="before", action="store_false")
    parser.add_argument("--plain", default="both", choices=("none", "same", "both"))
    for name, default in (("steps", 400), ("batch", 8), ("pictures", 8), ("draw-steps", 8), ("stochastic", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("lr", None), ("kl", 0.0), ("clip", 1e-5), ("noise", 0.7), ("guidance", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    asked = parser.parse_args()
    run = model_folder(asked.run).resolve()
    over_seeds(asked.seeds, lambda seed, work: learnt(run, seed, work, asked))


if __name__ == "__main__":
    main()
