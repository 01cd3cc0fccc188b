"""What launch writes is what each kind of cluster reads, and what torchrun and daybreak train accept."""

import shlex
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.launch.write import Job, kubernetes, local, sky, slurm
from tests.waiting import LONG

WORDS = ["speedrun", "--data", "shards", "--out", "runs/day", "--resume", "auto", "--evaluate.grid_prompts=a red cat,b"]
JOB = Job(name="day", words=WORDS, nodes=4, gpus=8, minutes=1450, image="registry/daybreak:1")


@pytest.mark.parametrize("write", [local, slurm])
def test_scripts_are_bash(write, tmp_path):
    path = tmp_path / "job"
    path.write_text(write(JOB))
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    last = shlex.split(path.read_text().splitlines()[-1])
    assert last[last.index("torchrun") :][-len(WORDS) :] == WORDS


def test_the_slurm_script_has_one_launcher_a_node_and_saves_before_its_limit():
    text = slurm(JOB)
    for line in ("#SBATCH --nodes=4", "#SBATCH --ntasks-per-node=1", "#SBATCH --gpus-per-node=8", "#SBATCH --time=1450",
                 "#SBATCH --signal=TERM@120", "#SBATCH --requeue"):  # fmt: skip
        assert line in text.splitlines()
    assert '--rdzv-endpoint="$head:29400"' in text


def test_sky_and_kubernetes_are_yaml_with_the_nodes_and_gpus():
    task = yaml.safe_load(sky(JOB))
    assert task["num_nodes"] == 4 and task["resources"]["accelerators"] == "H200:8"
    job = yaml.safe_load(kubernetes(JOB))
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    container = worker["template"]["spec"]["containers"][0]
    assert job["kind"] == "PyTorchJob" and worker["replicas"] == 4
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert container["args"][-len(WORDS) :] == WORDS
    assert job["spec"]["runPolicy"]["activeDeadlineSeconds"] == 60 * 1450


def test_the_command_writes_a_job_that_trains(tmp_path, monkeypatch):
    """The local one is run for real."""
    from tests.train.ranks import SETTINGS, environment

    monkeypatch.chdir(tmp_path)
    flags = ["--bell", 'echo "$DAYBREAK_EVENT" > heard']
    flags += [f"--{k}={v}" for k, v in {**SETTINGS, "train.steps": 2}.items()]
    result = CliRunner().invoke(app, ["launch", "scenes", "--out", "runs/One", "--gpus", "1", *flags])
    assert result.exit_code == 0, result.output
    assert "start it with: bash one-local.sh" in result.output
    script = (tmp_path / "one-local.sh").read_text()
    script = script.replace("exec torchrun", "printf '%s\\0'")  # what bash makes of its words
    words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    (tmp_path / "one-local.sh").write_text("# by hand\n")
    result = CliRunner().invoke(app, ["launch", "scenes", "--out", "runs/One", "--gpus", "1", *flags])
    assert isinstance(result.exception, ConfigError) and "one-local.sh exists" in str(result.exception)
    assert (tmp_path / "one-local.sh").read_text() == "# by hand\n"
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "runs" / "One" / "score.json").exists()
    assert (tmp_path / "heard").read_text() == "finished\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scenes", "--gpus", "7"], "train.batch 48 does not divide over 7 GPUs; 49 would"),
        (["scenes", "--to", "kubernetes"], "--image"),
        (["scnes"], "did you mean scenes"),
        ([], "say what to train"),
    ],
)
def test_mistakes(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["launch", *words, "--out", "run"])
    assert isinstance(result.exception, ConfigError) and message in str(result.exception)
