"""The same job on a local Ray cluster gives the same bytes."""

import os
import subprocess
import sys

import pytest
from making import captioned_folder, prepared, tree

pytest.importorskip("ray", reason="the ray extra is not installed")


def test_ray_gives_the_same_shards(tmp_path):
    folder = captioned_folder(tmp_path / "folder", 60)
    prepared(folder, tmp_path / "here", shard_mb=0.05)
    command = [sys.executable, "-m", "daybreak", "prepare", str(folder), "--out", str(tmp_path / "ray")]
    command += ["--size", "64", "--patch", "8", "--shard-mb", "0.05", "--engine", "ray"]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
    assert run.returncode == 0, run.stderr[-2000:]
    assert tree(tmp_path / "ray") == tree(tmp_path / "here")
