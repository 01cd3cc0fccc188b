"""What a run meets in a day, for real: damaged checkpoints, a full disk, bad batches, a stall, a clock that jumps."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ranks import environment

from daybreak import checkpoint_files
from daybreak.config import ConfigError
from daybreak.data.batch import Batch
from daybreak.data.scenes.source import ScenesSource
from daybreak.formats.run import load_averaged
from daybreak.train import checkpoint, guard
from daybreak.train.guard import TrainingError
from daybreak.train.loop import train
from daybreak.train.watch import AlarmRecord, LogFiles
from tests.conftest import tiny_config
from tests.kills import lines_of_log
from tests.program import started
from tests.train.test_run import Recorder, losses
from tests.waiting import LONG, wait_until

CONFIG = {"train__sample_every": 1.0, "evaluate__grid_prompts": "a red circle", "sample__steps": 2}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Twelve steps, each with a checkpoint; four are kept."""
    run = tmp_path_factory.mktemp("saved") / "run"
    train(tiny_config(train__steps=12, train__save_minutes=1e-9, train__keep=4, **CONFIG), run, [])
    return run


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """The second half is gone."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
@pytest.mark.parametrize("name", ["training/shard-00001-model-00001-of-00001.safetensors", "transformer.safetensors"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_to_the_bit(saved, tmp_path, harm, name):
    run = tmp_path / "run"
    shutil.copytree(saved, run)
    harm(run / "checkpoints" / "step-00000012" / name)
    harm(run / "checkpoints" / "step-00000011" / name)
    recorder = Recorder()
    state = train(tiny_config(train__steps=12, **CONFIG), run, [recorder], resume=True)
    told = [n for n in recorder.notes if "going back to the checkpoint before it" in n]
    assert len(told) == 2 and name in told[0] and "step-00000012" in told[0]
    assert recorder.steps[0].step == 11
    assert losses(run) == losses(saved)
    whole = checkpoint.resume(saved, tiny_config(train__steps=12, **CONFIG), torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(state.parameters(), whole.parameters(), strict=True))


def test_sampling_refuses_a_flipped_bit(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved, run)
    flip(checkpoint.newest(run) / "transformer.safetensors")
    with pytest.raises(ConfigError, match=r"transformer.safetensors is damaged: its checksum is wrong"):
        load_averaged(run, tiny_config(), torch.device("cpu"))


def test_the_best_checkpoint_stays(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved, run)
    checkpoint_files.mark_best(run, 10, "prompts followed", 0.5)
    train(tiny_config(train__steps=20, train__save_minutes=1e-9, **CONFIG), run, [], resume=True)
    assert [p.name[-2:] for p in checkpoint.complete(run)] == ["10", "19", "20"]
    assert checkpoint_files.best(run)["value"] == 0.5


def full_disk(tmp_path: Path, megabytes: int) -> Path:
    """A real file system that is soon full; the test is skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)])
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    return place


def test_a_full_disk_costs_nothing_but_time(tmp_path, monkeypatch):
    """It fills after the first checkpoint; training goes on, and the last one is written once there is room."""
    disk = full_disk(tmp_path, 8)
    try:
        run, recorder = disk / "run", Recorder()
        monkeypatch.setattr("daybreak.train.pauses.RETRY_SECONDS", 0.0)
        monkeypatch.setattr("daybreak.train.pauses.LOOK_SECONDS", 0.05)
        ballast = disk / "ballast"

        class Filler(Recorder):
            def on_step(self, record):
                super().on_step(record)
                if record.step == 3:
                    free = shutil.disk_usage(disk).free
                    ballast.write_bytes(b"x" * (free - 200_000))

            def on_note(self, text):
                super().on_note(text)
                if "waits for room" in text:
                    ballast.unlink()

        recorder = Filler()
        config = tiny_config(train__steps=8, train__save_minutes=1e-9, **CONFIG)
        state = train(config, run, [recorder])
        assert state.step == 8
        told = [n for n in recorder.notes if "could not be written" in n]
        assert told and all("\n" not in n and "No space left" in n for n in told)
        assert "step-00000008" in {p.name for p in checkpoint.complete(run)}
        assert all(checkpoint_files.damage(p) is None for p in checkpoint.complete(run))
        reference = train(config, tmp_path / "whole", [])
        assert all(torch.equal(a, b) for a, b in zip(state.parameters(), reference.parameters(), strict=True))
        assert losses(run) == losses(tmp_path / "whole")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_is_no_full_disk_is_told_as_what_it_is_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("daybreak.train.pauses.ROOM_SECONDS", 5.0)
    run = tmp_path / "run"

    class Blocker(Recorder):
        def on_step(self, record):
            super().on_step(record)
            if record.step == 2:
                (run / "checkpoints").write_text("in the way")

    recorder = Blocker()
    with pytest.raises(TrainingError, match="Not a directory; nothing before it is lost: see to that, then") as error:
        train(tiny_config(train__steps=4, **CONFIG), run, [recorder])
    assert "free there" not in str(error.value)
    assert not [n for n in recorder.notes if "room" in n]


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_the_run_in_one_line_and_spares_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("daybreak.train.pauses.ROOM_SECONDS", 1.0)
    disk = full_disk(tmp_path, 8)
    try:
        run = disk / "run"

        class Filler(Recorder):
            def on_step(self, record):
                if record.step == 4:
                    (disk / "ballast").write_bytes(b"x" * (shutil.disk_usage(disk).free - 100_000))

        with pytest.raises(TrainingError, match="make room, then daybreak train --resume") as error:
            train(tiny_config(train__steps=6, train__save_minutes=1e-9, **CONFIG), run,
                  [Filler()])  # fmt: skip
        assert "\n" not in str(error.value)
        assert checkpoint_files.damage(checkpoint.newest(run)) is None
        (disk / "ballast").unlink()
        assert train(tiny_config(train__steps=6, **CONFIG), run, [], resume=True).step == 6
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def poisoned(monkeypatch, bad) -> None:
    """Pictures of samples number n with bad(n, order seed) come as nan."""
    real = ScenesSource.batch

    def batch(self, position, size):
        good = real(self, position, size)
        images = good.images.clone()
        for i in range(size):
            if bad(position + i, self.seed):
                images[i] = float("nan")
        return Batch(images, good.captions)

    monkeypatch.setattr(ScenesSource, "batch", batch)


def test_a_bad_batch_is_passed_over_and_its_samples_are_listed(tmp_path, monkeypatch):
    poisoned(monkeypatch, lambda n, _: n == 19)
    recorder = Recorder()
    state = train(tiny_config(train__steps=6, **CONFIG), tmp_path / "run", [recorder])
    assert [s.step for s in recorder.steps] == [1, 2, 4, 5, 6]
    assert state.skipped_steps == 1
    assert all(torch.isfinite(p).all() for p in state.parameters())
    (line,) = (tmp_path / "run" / "bad_steps.jsonl").read_text().splitlines()
    assert json.loads(line)["keys"] == list(range(16, 24))
    assert any("was not applied" in n and "nan" in n for n in recorder.notes)
    events = [json.loads(x) for x in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "bad_step"] == [3]


def test_repeated_bad_steps_return_to_a_checkpoint_and_another_order_of_the_data(tmp_path, monkeypatch):
    poisoned(monkeypatch, lambda n, seed: n >= 40 and seed == 0)
    recorder = Recorder()
    config = tiny_config(train__steps=18, train__save_minutes=1e-9, **CONFIG)
    state = train(config, tmp_path / "run", [recorder])
    assert state.rollbacks == 1 and state.step == 18
    assert state.skipped_steps == guard.MAX_BAD_STEPS
    assert any("from step 15 back to step-00000005; the data come in another order" in n for n in recorder.notes)
    steps = [e["step"] for e in map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
             if e["event"] == "step"]  # fmt: skip
    assert steps == list(range(1, 19))


def test_bad_steps_without_end_stop_the_run_with_a_diagnosis(tmp_path, monkeypatch):
    poisoned(monkeypatch, lambda n, _: n >= 24)
    with pytest.raises(TrainingError, match=r"after 2 returns to a checkpoint.*velocity") as error:
        train(tiny_config(train__steps=60, train__save_minutes=1e-9, **CONFIG), tmp_path / "run", [])
    assert "bad_steps.jsonl lists the samples" in str(error.value)
    assert checkpoint_files.damage(checkpoint.newest(tmp_path / "run")) is None


def test_an_exploding_loss_does_not_touch_the_weights(tmp_path):
    # The guard needs these fields alone.
    fields = type("Fields", (), {"losses": [1.0] * 30, "skipped_steps": 0, "rollbacks": 0, "step": 31, "position": 0})()
    g = guard.Guard(tiny_config(), tmp_path, fields)
    assert g.accepts(9.0, 1.0) and not g.accepts(11.0, 1.0)
    assert not g.accepts(1.0, float("inf")) and not g.accepts(float("nan"), 1.0)
    fields.losses = [1.0] * 5
    assert g.accepts(50.0, 1.0)  # too early to tell


STALL = """
import sys, time
from daybreak.data.scenes.source import ScenesSource
real = ScenesSource.batch
def batch(self, position, size):
    if position >= 24:
        time.sleep(1000)
    return real(self, position, size)
ScenesSource.batch = batch
from daybreak.cli import entry
entry()
"""


def test_a_stall_leaves_every_stack_and_a_code(tmp_path):
    from ranks import command

    run = tmp_path / "run"
    bell = f'echo "$DAYBREAK_EVENT $DAYBREAK_ALARM $DAYBREAK_STEP" > {tmp_path}/heard'
    words = command(run, 1, "--bell", bell, train__steps=50, train__stall_minutes=0.04)[3:]
    (tmp_path / "stalls.py").write_text(STALL)
    done = subprocess.run(
        [sys.executable, tmp_path / "stalls.py", *words], env=environment(), capture_output=True, text=True,
        timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr[-2000:]
    assert "every thread's stack is in" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "heard").read_text() == "failed stall 3\n"
    stacks = (run / "stalls" / "rank-0000.txt").read_text()
    assert "rank 0, after step 3" in stacks
    assert "data/stream.py" in stacks and "train/loop.py" in stacks and stacks.count("Thread 0x") >= 2


def test_sigterm_saves_and_exits_with_zero(tmp_path):
    from ranks import command

    run = tmp_path / "run"
    process = subprocess.Popen(
        command(run, 1, train__steps=100_000), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    log = run / "log.jsonl"
    while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 3):
        time.sleep(0.02)
    process.terminate()
    output, _ = process.communicate(timeout=LONG)
    assert process.returncode == 0, output
    assert f"continue with: daybreak train --resume {run}" in output
    assert not (run / "score.json").exists()  # nobody waits for an evaluation
    assert checkpoint_files.damage(checkpoint.newest_good(run)) is None


def test_a_crash_of_native_code_tells_where_it_was(tmp_path):
    from ranks import command

    run = tmp_path / "run"
    with started(command(run, 1, train__steps=100_000), OMP_NUM_THREADS="1") as training:
        wait_until(lambda: training.check() or lines_of_log(run), "a first step")
        training.process.send_signal(signal.SIGSEGV)
        assert training.process.wait(LONG) == -signal.SIGSEGV
    said = "".join(training.lines)
    assert "Fatal Python error: Segmentation fault" in said and "train/loop.py" in said


def test_half_a_line_of_a_killed_run_is_dropped(tmp_path):
    lines = [json.dumps({"event": "step", "step": n}) for n in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + '\n{"event": "st')
    LogFiles(tmp_path, 2).close()
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines[:2]


def test_log_lines_wait_for_room(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    told = []
    files = LogFiles(tmp_path, None, told.append)
    files.on_alarm(AlarmRecord(1, "bad step", "first", "bad_step"))
    os.replace(tmp_path / "log.jsonl", tmp_path / "aside")
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    files.on_alarm(AlarmRecord(2, "bad step", "second", "bad_step"))
    files.on_alarm(AlarmRecord(3, "bad step", "third", "bad_step"))
    (tmp_path / "log.jsonl").unlink()
    os.replace(tmp_path / "aside", tmp_path / "log.jsonl")
    files.close()
    assert [json.loads(x)["step"] for x in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert len(told) == 1 and "wait in memory" in told[0]
