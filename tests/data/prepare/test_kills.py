"""Killed with SIGKILL again and again at random, `daybreak prepare` ends with the very bytes of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from making import captioned_folder, prepared, tree

from tests.waiting import LONG


@pytest.mark.parametrize("wanted", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_change_nothing(tmp_path, wanted):
    source = captioned_folder(tmp_path / "source", 200, size=lambda i: [(240, 240), (320, 200), (200, 320)][i % 3])
    prepared(source, tmp_path / "whole", size=128, copy_size=64, patch=16, shard_mb=0.125)
    command = [sys.executable, "-m", "daybreak", "prepare", str(source), "--out", str(tmp_path / "killed")]
    command += ["--size", "128", "--copy-size", "64", "--patch", "16", "--shard-size", "0.125MB", "--workers"]
    rng, kills, finished_parts = random.Random(0), 0, []
    work = tmp_path / "killed" / ".prepare"
    while kills < wanted:
        workers = "2" if kills % 5 == 0 else "0"
        run = subprocess.Popen(
            [*command, workers], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        before = len(list(work.rglob("*.json"))) + len(list((work / "shards").glob("*.parquet")))
        wait_until = before + rng.choice([0, 1, 2, 3])
        deadline = time.monotonic() + LONG
        # Killed at work, not while Python starts: once it has gone a little further, or while it is on its way there.
        while run.poll() is None and time.monotonic() < deadline:
            now = len(list(work.rglob("*.json"))) + len(list((work / "shards").glob("*.parquet")))
            if now > wait_until or (now > before and rng.random() < 0.02):
                break
            time.sleep(0.005)
        if run.poll() is not None:
            assert run.returncode == 0, run.stderr.read().decode()
            break  # faster than so many kills; the rest is checked below
        os.kill(run.pid, signal.SIGKILL)  # its workers have to notice by themselves
        run.wait()
        kills += 1
        finished_parts.append(len(list(work.rglob("*.json"))))
    assert kills >= min(5, wanted)
    assert finished_parts == sorted(finished_parts)  # no finished part is done again
    subprocess.run([*command, "1"], check=True, stdout=subprocess.DEVNULL)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
