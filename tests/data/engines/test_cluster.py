"""A real local Ray cluster gives what one process gives, also where workers and drivers are killed."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from making import captioned_folder, prepared, tree
from typer.testing import CliRunner

from daybreak.cli import app
from tests.data.tiny_vlm import tiny_vlm
from tests.encoders.test_pretrained_text import saved
from tests.waiting import LONG, wait_until

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the ray extra is not installed")

ROOT = Path(__file__).parents[3]
CLUSTER = """
import ray, sys
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of two CPUs that was started elsewhere, in another folder; its process."""
    before = dict(os.environ)
    os.environ |= {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # by default workers wait for everything else that runs here
        "RAY_AUTH_MODE": "token",  # recent versions take no stranger
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    import ray  # reads the token when imported

    head = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, cwd=tmp_path_factory.mktemp("elsewhere"),
    )  # fmt: skip
    os.environ["RAY_ADDRESS"] = head.stdout.readline().strip()
    yield head
    ray.shutdown()
    head.stdin.close()
    head.wait(LONG)
    os.environ.clear()
    os.environ.update(before)


def processes(cluster) -> list[tuple[Any, str]]:
    """The cluster's processes, and what each calls itself."""
    import psutil  # Ray brings it
    import ray  # noqa: F401

    found = []
    for process in psutil.Process(cluster.pid).children(recursive=True):
        try:
            found.append((process, " ".join(process.cmdline())))
        except psutil.Error:  # it is just gone
            continue
    return found


def kill_a_worker(cluster, name: str) -> None:
    """SIGKILL to a worker at work on `name`."""

    def at_work():
        return next((process for process, words in processes(cluster) if f"ray::{name}" in words), None)

    wait_until(at_work, f"a worker that does {name}").kill()


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 0, f"{done.output} {done.exception!r}"
    return done.output


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    captioned_folder(folder / "pictures", 150, size=(480, 360))
    with contextlib.chdir(folder):  # the shards' fingerprint is made of the names that were given
        prepared("pictures", "here", size=256, patch=32, shard_mb=0.4)
    return folder


PREPARE = ("prepare", "pictures", "--size", 256, "--patch", 32, "--shard-size", "0.4MB", "--engine", "ray")


@pytest.mark.usefixtures("cluster")
def test_prepare_gives_the_bytes_of_one_process(source, monkeypatch):
    monkeypatch.chdir(source)  # relative paths mean the same on the cluster, whose processes stand elsewhere
    run(*PREPARE, "--out", "cluster", "--workers", 2)
    assert len(list((source / "cluster" / "data").glob("*.parquet"))) > 2
    assert tree(source / "cluster") == tree(source / "here")


def test_killed_workers_and_a_killed_driver_change_nothing(cluster, source):
    command = [sys.executable, "-m", "daybreak", *map(str, PREPARE), "--out", "killed"]
    parts = source / "killed" / ".prepare" / "parts"
    driver = subprocess.Popen(command, cwd=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    kill_a_worker(cluster, "_in_folder")
    wait_until(lambda: list(parts.glob("*.json")) or driver.poll() is not None)
    kill_a_worker(cluster, "_in_folder")
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not (source / "killed" / "index.json").exists()
    # What is finished is marked, so that doing it again would show.
    finished = sorted(parts.glob("*.json"))
    assert finished
    for number, listing in enumerate(finished):
        content = json.loads(listing.read_text())
        content["notes"].append([f"mark {number}", "was not done again"])
        listing.write_text(json.dumps(content))
    driver = subprocess.Popen(command, cwd=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    kill_a_worker(cluster, "_in_folder")
    assert driver.wait(LONG) == 0, driver.stderr.read().decode()
    got, expected = tree(source / "killed"), tree(source / "here")
    notes = [json.loads(line) for line in got.pop("notes.jsonl").decode().splitlines()]
    assert [n["key"] for n in notes if n["key"].startswith("mark")] == [f"mark {i}" for i in range(len(finished))]
    expected.pop("notes.jsonl")
    assert got == expected


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Shards, an encoder, a model that writes captions, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("models")
    encoder, vlm = saved("qwen3", folder / "encoder").pretrained, tiny_vlm(folder / "vlm")
    prepared(captioned_folder(folder / "pictures", 60), folder / "shards", size=64, shard_mb=0.02)
    embed = ("--model", encoder, "--max-tokens", 40, "--batch", 5)
    caption = ("--model", vlm, "--max-tokens", 4, "--batch", 3)
    shutil.copytree(folder / "shards", folder / "here")
    run("caption", folder / "here", *caption, "--workers", 0)
    run("embed", folder / "here", *embed, "--workers", 0)
    return folder, caption, embed


@pytest.mark.usefixtures("cluster")
def test_captions_and_embeddings_are_those_of_one_process(models):
    folder, caption, embed = models
    shutil.copytree(folder / "shards", folder / "cluster")
    run("caption", folder / "cluster", *caption, "--engine", "ray", "--workers", 2)
    run("embed", folder / "cluster", *embed, "--engine", "ray")
    assert tree(folder / "cluster") == tree(folder / "here")


@pytest.mark.usefixtures("cluster")
def test_prepare_embeds_on_the_cluster(models):
    folder, _, embed = models
    words = ("prepare", folder / "pictures", "--size", 64, "--patch", 8, "--embed", embed[1])
    run(*words, "--out", folder / "one", "--workers", 0)
    run(*words, "--out", folder / "two", "--engine", "ray")
    assert any("embeddings/text/00000" in name for name in tree(folder / "two"))
    assert tree(folder / "one") == tree(folder / "two")


def test_a_killed_actor_is_replaced_and_a_killed_driver_resumes(cluster, models):
    folder, caption, _ = models
    shards = shutil.copytree(folder / "shards", folder / "killed")
    command = [sys.executable, "-m", "daybreak", "caption", str(shards), *map(str, caption), "--name", "written"]
    command += ["--engine", "ray", "--workers", "2"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    files = shards / "captions" / "written"
    wait_until(lambda: list(files.glob("*.arrow")) or driver.poll() is not None)
    kill_a_worker(cluster, "_Holder")
    before = len(list(files.glob("*.arrow")))
    wait_until(lambda: len(list(files.glob("*.arrow"))) > before or driver.poll() is not None)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    wait_until(lambda: not any("_Holder" in words for _, words in processes(cluster)))
    done = {p: p.stat().st_mtime_ns for p in files.glob("*.arrow")}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert {p: p.stat().st_mtime_ns for p in done} == done
    expected = {name: data for name, data in tree(folder / "here").items() if not name.startswith("embeddings")}
    assert {n: d for n, d in tree(shards).items() if not Path(n).name.startswith(".")} == expected


@pytest.mark.usefixtures("cluster")
def test_an_error_on_the_cluster_is_one_line(models, tmp_path):
    folder, _, _ = models
    command = [sys.executable, "-m", "daybreak", "embed", str(folder / "shards"), "--model", str(tmp_path / "nowhere")]
    done = subprocess.run([*command, "--name", "other", "--engine", "ray"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"--model {tmp_path}/nowhere cannot be loaded" in done.stderr.replace("\n", "")
