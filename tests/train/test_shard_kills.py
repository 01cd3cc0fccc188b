"""Training on shards, killed with SIGKILL at random moments, sees the samples of an undisturbed run, to the bit."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from making import captioned_folder, prepared

from tests.conftest import tiny_config
from tests.waiting import LONG


def run_or_resume(shards: str, run: Path, steps: int) -> None:
    """In a process of its own: goes on from the newest checkpoint where there is one."""
    import shutil

    import torch

    from daybreak.train.loop import train

    torch.set_num_threads(1)
    config = tiny_config(
        data__source="shards",
        data__shards=[shards],
        data__resolution=32,
        model__patch=8,
        train__batch=8,
        train__steps=steps,
        train__save_minutes=1e-4,
        train__sample_every=1.0,
        data__workers=2,
    )
    resume = any((run / "checkpoints").glob("step-????????"))
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    train(config, run, [], resume=resume)


def losses(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(e["step"], e["loss"]) for e in lines if e["event"] == "step"]


@pytest.mark.parametrize(("wanted", "steps"), [(3, 16), pytest.param(10, 24, marks=pytest.mark.slow)])
def test_kills_change_no_sample(tmp_path, wanted, steps):
    folder = captioned_folder(tmp_path / "folder", 50, size=lambda i: [(96, 96), (128, 80)][i % 2])
    prepared(folder, tmp_path / "shards", shard_mb=0.05)
    context = multiprocessing.get_context("spawn")
    rng, kills = random.Random(1), 0

    def start(run: Path):
        process = context.Process(target=run_or_resume, args=(str(tmp_path / "shards"), run, steps))
        process.start()
        return process

    undisturbed = start(tmp_path / "whole")
    undisturbed.join(LONG)
    assert undisturbed.exitcode == 0
    killed = tmp_path / "killed"
    while kills < wanted:
        log = killed / "log.jsonl"
        before, target = len(log.read_text().splitlines()) if log.exists() else 0, rng.randint(1, 4)
        process = start(killed)
        while process.is_alive() and (len(log.read_text().splitlines()) if log.exists() else 0) < before + target:
            time.sleep(0.003)
        if not process.is_alive():
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert kills >= min(5, wanted)
    last = start(killed)
    last.join(LONG)
    assert last.exitcode == 0
    assert losses(killed) == losses(tmp_path / "whole")
    assert len(losses(killed)) == steps
