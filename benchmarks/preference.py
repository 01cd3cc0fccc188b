"""Whether preferences are learnt, what that costs, and what plain training brings in the same time.

    python benchmarks/preference.py votes                  30 votes for larger objects, by the model in the box
    python benchmarks/preference.py judge --expand none     a judge of prompts as they stand, against plain training

Each over three seeds, with as many threads as OMP_NUM_THREADS says. Times are CPU time (the machine may have
others at work), of training alone. Rows are appended to benchmarks/preference.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from daybreak import config as configs
from daybreak.ablate.frechet import frechet_on_scenes
from daybreak.config import load, override, save
from daybreak.data.scenes.source import ScenesSource
from daybreak.evaluate.judge import CONTRAST
from daybreak.evaluate.scoring import judge_scenes
from daybreak.files import new_folder
from daybreak.formats.open import open_model
from daybreak.model_folder import model_folder
from daybreak.prefer.asked import check_prefer
from daybreak.prefer.opening import begin_own, open_own
from daybreak.prefer.pairs import read_pairs
from daybreak.prefer.settings import PreferSettings
from daybreak.sampling.generate import generate
from daybreak.train.loop import train_on
from daybreak.train.pixel import Pixel
from daybreak.vote import study as studies
from daybreak.vote.contestants import contestants_of
from daybreak.vote.pairs import pairs_of_study, schedule
from daybreak.vote.study import picture_path
from daybreak.vote.votes import Votes

CPU = torch.device("cpu")
LOG = Path(__file__).parent / "preference.jsonl"
DRAWN = 64
"""Pictures before and after, from the same noise, of prompts that nobody voted on."""


def covered(picture: np.ndarray) -> float:
    """Share of a picture [3, H, W] in [-1, 1] that objects cover: what stands out from its border's colour."""
    image = picture / 2 + 0.5
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    distance = np.sqrt(((image - np.median(border, axis=1)[:, None, None]) ** 2).sum(axis=0))
    return float((distance > CONTRAST).mean())


def votes_for_larger(folder: Path, run: Path, prompts: list[str], seed: int) -> None:
    """A comparison of the run with itself, and one voter who wants larger objects and says nothing else."""
    listed = folder.with_suffix(".txt")
    listed.write_text("\n".join(prompts))
    studies.create(folder, contestants_of([run], ()), listed, ("overall",), seed, None, lambda _: None)
    study = studies.load(folder)
    votes = Votes(folder / "votes.sqlite", study.questions)
    votes.add_voter(1, schedule(pairs_of_study(len(study.prompts), 2, None, seed), seed, 1))
    for step, pair in enumerate(votes.pairs(1)):
        sizes = [covered(read(picture_path(folder, pair.item, k))) for k in (pair.left, pair.right)]
        choice = "tie" if sizes[0] == sizes[1] else "left" if sizes[0] > sizes[1] else "right"
        votes.cast(1, step, choice, f"simulated-{step:06}", None)
    votes.close()


def read(path: Path) -> np.ndarray:
    """[3, H, W] in [-1, 1]."""
    from daybreak.data.pictures import decode

    return np.asarray(decode(path, (255, 255, 255)).image).transpose(2, 0, 1) / 127.5 - 1


def begin(settings: PreferSettings, run: Path) -> PreferSettings:
    """A run at step 0 that draws nothing while it trains: what is measured is measured here."""
    settings = check_prefer(settings, run)
    with new_folder(run) as building:
        building.mkdir()
        begin_own(settings, building, print)
    save(override(load(run / "config.yaml"), "train.sample_every", 1.0), run / "config.yaml")
    return settings


def short_prompts(config: configs.Config, seed: int, count: int) -> list[str]:
    """Different short captions of the world, of a stream that neither training nor the score has."""
    source = ScenesSource(config.data.resolution, 7000 + seed, config.data.task_weights)
    return list(dict.fromkeys(source.some_captions(6 * count)))[:count]


def scored(networks: tuple, config: configs.Config) -> dict[str, float]:
    """The evaluation's shares of prompts followed, and the Fréchet distance of 400 pictures."""
    e = config.evaluate
    shares = judge_scenes(lambda p: generate(*networks, p, config, e.seed), e, None).scores
    return {k: shares[k] for k in ("overall", "held_out")} | {"frechet": frechet_on_scenes(*networks, config, 400)[0]}


def opened(run: Path, prompts_per_task: int) -> tuple[tuple, configs.Config]:
    """The networks and the config, judged by so many prompts of each task and twice as many of what is held out."""
    *networks, config = open_model(run, CPU)
    config = override(config, "evaluate.prompts_per_task", prompts_per_task)
    return tuple(networks), override(config, "evaluate.held_out_prompts", 2 * prompts_per_task)


def larger_objects(run: Path, seed: int, work: Path, asked: argparse.Namespace, was: dict[str, float]) -> dict:
    """30 votes; how much larger objects are drawn then, and what it cost. was: the score before."""
    before, config = opened(run, asked.prompts_per_task)
    steps, beta, lr = asked.steps, asked.beta, asked.lr
    prompts = short_prompts(config, seed, 30 + DRAWN)
    votes_for_larger(work / "blind", run, prompts[:30], seed)
    given = PreferSettings(
        run=str(run), votes=str(work / "blind"), steps=steps, beta=beta, lr=lr, seed=seed, held_out=8
    )
    settings, folder = begin(given, work / "run"), work / "run"
    began = time.process_time()
    trainee = open_own(settings, folder, print)
    train_on(trainee, folder, [])
    seconds = time.process_time() - began
    asked_for = prompts[30:]
    sizes = []
    for networks in (before, trainee.drawing_networks()):
        pictures = generate(*networks, asked_for, config, 9000 + seed).numpy()
        sizes.append(np.array([covered(p) for p in pictures]))
    change = sizes[1] - sizes[0]
    half = stats.t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / math.sqrt(len(change))
    found = {
        "what": "votes", "seed": seed, "steps": steps, "beta": beta, "lr": lr, "cpu_seconds": round(seconds, 1),
        "covered_before": sizes[0].mean(), "covered_after": sizes[1].mean(),
        "change_low": change.mean() - half, "change_high": change.mean() + half,
        "larger": float((change > 0).mean()), "p": float(stats.ttest_rel(sizes[1], sizes[0]).pvalue),
    }  # fmt: skip
    found |= {f"{k}_before": v for k, v in was.items()}
    return found | {f"{k}_after": v for k, v in scored(trainee.drawing_networks(), config).items()}


def judged(run: Path, seed: int, work: Path, asked: argparse.Namespace, was: dict[str, float]) -> list[dict]:
    """The judge's pairs in rounds, and plain training for the same CPU time: on the captions that the run was trained
    on, and on short ones alone."""
    _, config = opened(run, asked.prompts_per_task)
    if asked.expand is not None:
        config = override(config, "sample.expand", asked.expand)
    settings = PreferSettings(
        run=str(run), judge="scenes", expand=asked.expand, steps=asked.steps, beta=asked.beta, lr=asked.lr, seed=seed,
        rounds=asked.rounds, prompts=asked.prompts, pictures=asked.pictures, held_out=8,
    )  # fmt: skip
    settings, folder = begin(settings, work / "run"), work / "run"
    began = time.process_time()
    trainee = open_own(settings, folder, print)
    train_on(trainee, folder, [])
    seconds = time.process_time() - began
    common = {"what": "judge", "run": run.name, "seed": seed, "expand": config.sample.expand}
    rows = [common | {"way": "as it was"} | was]
    told = {"steps": asked.steps, "beta": asked.beta, "lr": asked.lr, "rounds": asked.rounds}
    pairs = sum(len(read_pairs(f)) for f in sorted((folder / "pairs").iterdir()))
    rows.append(
        common
        | {"way": "prefer", "cpu_seconds": round(seconds, 1), "pairs": pairs}
        | told
        | scored(trainee.drawing_networks(), config)
    )
    for dense in asked.plain:
        name = "plain training" if dense is None else "plain training, short captions"
        pixel, steps, took = trained_plainly(run, config, seed, dense, seconds, work)
        rows.append(
            common
            | {"way": name, "cpu_seconds": round(took, 1), "steps": steps}
            | scored(pixel.drawing_networks(), config)
        )
    return rows


def trained_plainly(
    run: Path, config: configs.Config, seed: int, dense: float | None, seconds: float, work: Path
) -> tuple[Pixel, int, float]:  # fmt: skip
    """A run gone on with on pictures for so much CPU time, at a third of its rates, decayed to nothing at the end."""
    changes = {"train.minutes": None, "train.seed": 1000 + seed, "train.sample_every": 1.0, "alignment.weight": 0.0}
    changes |= {f"optim.{k}": 0.3 * getattr(config.optim, k) for k in ("muon_lr", "adam_lr")}
    if dense is not None:
        changes["data.dense"] = dense
    for key, value in changes.items():
        config = override(config, key, value)

    def take(steps: int, folder: Path) -> tuple[Pixel, float]:
        transformer, text_encoder, _ = open_model(run, CPU)
        pixel = Pixel.around(transformer, text_encoder, override(config, "train.steps", steps), CPU)
        began = time.process_time()
        train_on(pixel, folder, [])
        return pixel, time.process_time() - began

    few = [take(n, work / f"few-{dense}-{n}")[1] for n in (10, 40)]
    steps = max(10, int((seconds - few[0]) / (few[1] - few[0]) * 30) + 10)
    pixel, took = take(steps, work / f"plain-{dense}")
    return pixel, steps, took


def over_seeds(seeds: str, measure: Callable[[int, Path], list[dict]]) -> None:
    """Prints and keeps the rows of each seed, as they come. measure: a seed and a folder, which goes, to its rows."""
    for seed in map(int, seeds.split(",")):
        work = Path(tempfile.mkdtemp(prefix="preference-"))
        try:
            rows = measure(seed, work)
        finally:
            shutil.rmtree(work)
        with LOG.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        for row in rows:
            print(json.dumps(row), flush=True)


def main() -> None:
    """Runs what is asked for, and prints a line a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("votes", "judge"))
    parser.add_argument("--run", default="scenes")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--beta", type=float, default=2000.0)
    parser.add_argument("--lr", type=float, default=4e-5)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--expand", default=None)
    parser.add_argument("--prompts-per-task", type=int, default=24)
    parser.add_argument("--plain", default="both", choices=("none", "same", "both"))
    asked = parser.parse_args()
    asked.plain = {"none": [], "same": [None], "both": [None, 0.0]}[asked.plain]
    run = model_folder(asked.run).resolve()
    networks, config = opened(run, asked.prompts_per_task)
    was = scored(networks, config if asked.expand is None else override(config, "sample.expand", asked.expand))

    def rows(seed: int, work: Path) -> list[dict]:
        if asked.what == "votes":
            return [larger_objects(run, seed, work, asked, was)]
        return judged(run, seed, work, asked, was)

    over_seeds(asked.seeds, rows)


if __name__ == "__main__":
    main()
