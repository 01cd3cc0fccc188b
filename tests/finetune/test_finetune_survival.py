"""Fine-tuning survives what training does: kills, a damaged checkpoint, a full disk, bad batches, a stall; ranks."""

import io
import json
import random
import shutil
import subprocess
import sys

import pytest
import tiny
import torch
from rich.console import Console
from typer.testing import CliRunner

from daybreak import checkpoint_files
from daybreak.cli import app
from daybreak.commands.finetune import resume_finetune
from daybreak.config import ConfigError
from daybreak.finetune.asked import check_run_folder
from daybreak.finetune.order import CachedPictures
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.result import open_result
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.trainee import Diffusers
from daybreak.train.guard import TrainingError
from tests.kills import environment, kill_while_it_trains, lines_of_log
from tests.waiting import LONG

LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WORDS = [
    "--steps=12", "--batch=4", "--lr=3e-3", "--save-every=1", "--sample-every=100", "--sample-steps=1",
    "--sampler=ddim", "--warmup=0", "--ema=0.5", "--no-report", "--resolution=32", "--prompt=a red circle",
]  # fmt: skip
FEW = ["--steps=6", "--save-every=100"]
"""Where nothing goes on from a checkpoint."""


@pytest.fixture(scope="session")
def pictures(mixed):
    """Of several shapes, with steps that mix them."""
    return mixed


def words_of(base, pictures, out, *more):
    """What follows `daybreak`; two general prompts, since each is drawn by the base and seen by every probe."""
    general = out.parent / "general.txt"
    general.write_text("a dog\nthe big dog\n")
    return ["finetune", base, "--data", pictures, "--out", out, "--general-prompts", general, *WORDS, *more]


def program(words, launcher=()):
    """daybreak WORDS, on one process or as `launcher` starts them."""
    return [sys.executable, *launcher, "-m", "daybreak", *map(str, words)]


def finetuned(base, pictures, out, *words):
    """A run of the command line in this process; its folder."""
    result = CliRunner().invoke(app, list(map(str, words_of(base, pictures, out, *words))))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return out


def losses(run):
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(e["step"], e["loss"]) for e in events if e["event"] == "step"]


@pytest.fixture(scope="module")
def whole(base, pictures, tmp_path_factory):
    """Twelve steps, each with a checkpoint."""
    return finetuned(base, pictures, tmp_path_factory.mktemp("whole") / "run")


def test_killed_at_any_moment_it_goes_on_to_the_same_bits(base, pictures, whole, tmp_path):
    run, rng = tmp_path / "run", random.Random(11)
    first = words_of(base, pictures, run)
    kills = sum(
        kill_while_it_trains(["finetune", "--resume", run] if lines_of_log(run) else first, run, 3, rng.random() / 4)
        for _ in range(2)
    )
    assert kills
    resume_finetune(Console(quiet=True), run)
    tiny.check_same(run, whole)
    assert losses(run) == losses(whole)


def test_a_damaged_checkpoint_is_passed_over_to_the_bit(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    newest = checkpoint_files.complete(run)[-1]
    (file,) = (newest / "training").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    told = Console(file=io.StringIO(), width=300)
    resume_finetune(told, run)
    assert "checksum is wrong; going back to the checkpoint before it" in told.file.getvalue()
    tiny.check_same(run, whole)


def test_a_full_disk_costs_nothing_but_time(base, pictures, whole, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(disk)]).returncode:
        pytest.skip("no file system can be mounted here")
    monkeypatch.setattr("daybreak.train.pauses.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("daybreak.train.pauses.LOOK_SECONDS", 0.05)
    ballast, real = disk / "ballast", CachedPictures.batch

    def batch(self, position, size):
        if position == 4 * 6:
            ballast.write_bytes(b"x" * (shutil.disk_usage(disk).free - 20_000))
        return real(self, position, size)

    class Told(io.StringIO):
        def write(self, text):
            if "waits for room" in text:
                ballast.unlink(missing_ok=True)
            return super().write(text)

    monkeypatch.setattr(CachedPictures, "batch", batch)
    told = Told()
    try:
        monkeypatch.setattr("daybreak.cli.console", Console(file=told, width=300))
        finetuned(base, pictures, disk / "run")
        lines = [line for line in told.getvalue().splitlines() if "could not be written" in line]
        assert lines and all("No space left" in line for line in lines) and "Traceback" not in told.getvalue()
        tiny.check_same(disk / "run", whole)
        assert (disk / "run" / "model" / "model_index.json").is_file()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_bad_batch_is_refused_and_named(base, pictures, tmp_path, monkeypatch):
    real = CachedPictures.batch

    def batch(self, position, size):
        good = real(self, position, size)
        if position == 4 * 3:
            good.weights[1] = float("nan")
        return good

    monkeypatch.setattr(CachedPictures, "batch", batch)
    run = finetuned(base, pictures, tmp_path / "run", *FEW)
    assert [step for step, _ in losses(run)] == [1, 2, 3, 5, 6]
    (line,) = (run / "bad_steps.jsonl").read_text().splitlines()
    assert len(json.loads(line)["keys"]) == 4 and "circle" in json.loads(line)["keys"][0]
    assert all(t.isfinite().all() for t in tiny.stored(run).values())


def test_bad_batches_without_end_stop_the_run_with_what_to_try(base, pictures, tmp_path, monkeypatch):
    real = CachedPictures.batch

    def batch(self, position, size):
        good = real(self, position, size)
        good.weights[:] = float("inf")
        return good

    monkeypatch.setattr(CachedPictures, "batch", batch)
    with pytest.raises(TrainingError, match=r"try a lower --lr, or --precision float32"):
        finetuned(base, pictures, tmp_path / "run", "--steps", 40, "--save-every", 100)


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_two_processes_learn_what_one_learns(base, pictures, tmp_path, method):
    """Sharded by FSDP2; the result is whole, and a single process goes on from it."""
    run, more = tmp_path / "two", ["--steps", "4", "--method", method]
    words = program(words_of(base, pictures, run, *more), LAUNCHER)
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    alone = finetuned(base, pictures, tmp_path / "alone", *more)
    for (step, ours), (_, theirs) in zip(losses(run), losses(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3), step
    expected, found = (tiny.drawn(open_result(folder)) for folder in (alone, run))
    assert torch.allclose(found, expected, atol=1e-2)
    again = shutil.copytree(run, tmp_path / "again")
    shutil.rmtree(checkpoint_files.complete(again)[-1])
    resume_finetune(Console(quiet=True), again)  # one process goes on from what two wrote
    assert losses(again)[-1][1] == pytest.approx(losses(run)[-1][1], rel=1e-3)


STALL = """
import sys, time
from daybreak.finetune.order import CachedPictures
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.result import open_result
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.trainee import Diffusers
real = CachedPictures.batch
def batch(self, position, size):
    if position >= 12:
        time.sleep(1000)
    return real(self, position, size)
CachedPictures.batch = batch
from daybreak.train import watchdog
from daybreak.config import settings
settings.TrainConfig.__dataclass_fields__["stall_minutes"].default = 0.05
settings.TrainConfig.__init__.__defaults__ = tuple(
    0.05 if v == 30.0 else v for v in settings.TrainConfig.__init__.__defaults__
)
from daybreak.cli import entry
entry()
"""


def test_a_stall_leaves_every_stack_and_a_code(base, pictures, tmp_path):
    run = tmp_path / "run"
    words = words_of(base, pictures, run)
    (tmp_path / "stalls.py").write_text(STALL)
    done = subprocess.run(
        [sys.executable, tmp_path / "stalls.py", *map(str, words)], env=environment(), capture_output=True, text=True,
        timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 75, done.stdout[-2000:] + done.stderr[-2000:]
    assert "after step 3" in (run / "stalls" / "rank-0000.txt").read_text()


def test_where_memory_is_full_fewer_pictures_go_at_once_and_the_result_is_the_same(
    base, pictures, whole, tmp_path, monkeypatch
):
    real = Diffusers.loss

    def loss(self, batch, *others):
        if len(batch) > 1:
            raise torch.cuda.OutOfMemoryError("full")
        return real(self, batch, *others)

    monkeypatch.setattr(Diffusers, "loss", loss)
    run = finetuned(base, pictures, tmp_path / "run", *FEW)
    assert losses(run)[0][1] == pytest.approx(losses(whole)[0][1], rel=1e-5)
    monkeypatch.setattr(Diffusers, "loss", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("full")))
    with pytest.raises(TrainingError, match="one picture does not fit.*--recompute, a smaller --resolution"):
        finetuned(base, pictures, tmp_path / "other")


def test_a_parameter_that_no_optimiser_takes_is_named(base):
    settings = FinetuneSettings(base=str(base), data="-", train_text_encoder=True)
    prepared = open_prepared(settings, torch.device("cpu"))
    prepared.trained.parameters["vae.decoder.bias"] = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(RuntimeError, match="no optimiser takes vae.decoder.bias"):
        prepared.optimizer()


def test_a_model_of_our_own_is_fine_tuned_by_two_processes_and_its_rate_can_be_found(
    demo_run, pictures, tmp_path, monkeypatch
):
    """It has convolutions, whose weights lie in another order, and a scalar: FSDP takes neither as it is."""
    monkeypatch.setattr("daybreak.train.find_lr.STEPS", 8)  # over the same decades
    words = ["--data", str(pictures), "--steps=4", "--batch=4", "--no-report", "--warmup=0", "--resolution=32"]
    run = tmp_path / "two"
    call = program(["finetune", demo_run, "--out", run, *words], LAUNCHER)
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for base, out, more in ((demo_run, tmp_path / "one", []), ("scenes", tmp_path / "rate", ["--find-lr"])):
        result = CliRunner().invoke(app, ["finetune", str(base), "--out", str(out), *words, *more])
        assert result.exit_code == 0, (result.exception, result.output)
    # Where the CPU multiplies bfloat16, FSDP rounds to it at other places than autocast does.
    assert [loss for _, loss in losses(run)] == pytest.approx([loss for _, loss in losses(tmp_path / "one")], rel=2e-2)
    assert json.loads((tmp_path / "rate" / "lr.json").read_text())["suggestion"] > 0 and "--lr" in result.output
    assert {p.name for p in (tmp_path / "rate").iterdir()} == {"lr.json", "lr.png"}
    check_run_folder(tmp_path / "rate")  # a run may follow there


def test_what_may_change_when_a_run_goes_on_and_what_not(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    for words, said in (
        (["--guidance", "3"], "--guidance cannot change when a run goes on"),
        (["--find-lr"], "--find-lr cannot change when a run goes on"),
    ):
        refused = CliRunner().invoke(app, ["finetune", "--resume", str(run), *words])
        assert isinstance(refused.exception, ConfigError) and said in str(refused.exception)
    result = CliRunner().invoke(app, ["finetune", "--resume", str(run), "--steps", "14", "--lr", "1e-4"])
    assert result.exit_code == 0, (result.exception, result.output)
    assert [step for step, _ in losses(run)] == list(range(1, 15)) and "trained at 0.0001" in result.output
    (checkpoint_files.complete(run)[-1] / "trained.safetensors").touch()  # as versions before had it
    old = CliRunner().invoke(app, ["finetune", "--resume", str(run)])
    assert "begun by an earlier version and cannot be continued" in str(old.exception)
