"""A run that trains does what it is asked for from outside, once, and says so in its log."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from ranks import command, environment, events, losses, stop

from daybreak import checkpoint_files
from daybreak.config import ConfigError
from daybreak.history.read import read
from daybreak.run_folder import read_events
from daybreak.run_requests import FOLDER, LOCK, answer, ask, trains, waits
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.in_process import here
from tests.train.test_run import Recorder
from tests.waiting import LONG, wait_until


class Asker(Recorder):
    """Asks the run it watches for something after a step; as others do, but from inside."""

    def __init__(self, run: Path, step: int, *asks: tuple):
        super().__init__()
        self.run, self.step, self.asks, self.requests = run, step, asks, []

    def on_step(self, record):
        super().on_step(record)
        if record.step == self.step:
            self.requests = [ask(self.run, *words, by="a test") for words in self.asks]


@pytest.fixture(autouse=True)
def looks_at_every_step(monkeypatch):
    monkeypatch.setattr("daybreak.run_requests.LOOK_SECONDS", 0.0)


def test_a_run_does_what_it_is_asked_and_loses_nothing_by_it(tmp_path):
    config, run = tiny_config(train__steps=8, evaluate__grid_prompts="a red circle"), tmp_path / "run"
    asker = Asker(run, 2, ("checkpoint",), ("sample", ("a blue ring", "a blue ring", "zwei Kreise ✓")))
    train(config, run, [asker])
    train(config, tmp_path / "other", [])
    assert losses(run) == losses(tmp_path / "other") and not trains(run) and not (run / FOLDER).exists()
    assert [p.name for p in checkpoint_files.complete(run)] == ["step-00000003", "step-00000008"]
    saved, drawn = events(run, "request")
    assert (saved["kind"], saved["by"], saved["step"]) == ("checkpoint", "a test", 3)
    assert saved["text"] == "the checkpoint of step 3 is saved"
    assert drawn["prompts"] == ["a blue ring", "zwei Kreise ✓"] and "asked-2-step-00000003.png" in drawn["text"]
    assert [answer(run, r) for r in asker.requests] == [saved["text"], drawn["text"]]
    first, last = asker.samples
    assert (first.step, last.step, last.asked) == (3, 8, {})
    assert list(first.asked) == ["a blue ring", "zwei Kreise ✓"] and Path(first.path).is_file()
    pictures = [Image.open(path) for path in first.asked.values()]
    assert [p.size for p in pictures] == [(32, 32)] * 2 and pictures[0].tobytes() != pictures[1].tobytes()
    assert json.loads(pictures[1].text["parameters"])["prompt"] == "zwei Kreise ✓"
    assert read(run).samples[0]["asked"] == first.asked
    assert any("as asked by a test: the checkpoint of step 3" in n for n in asker.notes)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_to_the_same_losses(tmp_path):
    config, run = tiny_config(train__steps=8), tmp_path / "run"
    asker = Asker(run, 2, ("stop",))
    state = train(config, run, [asker])
    assert (state.step, events(run, "request")[0]["text"]) == (3, "stopped at step 3 and saved")
    assert any("stopped at step 3" in n and "--resume" in n for n in asker.notes)
    train(config, run, [], resume=True)
    train(config, tmp_path / "other", [])
    assert losses(run) == losses(tmp_path / "other") and len(events(run, "request")) == 1


def test_what_was_asked_of_a_dead_run_is_not_done_by_the_next(tmp_path):
    run = tmp_path / "run"
    train(tiny_config(train__steps=2), run, [])
    (run / FOLDER).mkdir()
    (run / FOLDER / LOCK).touch()  # as after a kill: the file is there, and nobody holds it
    (run / FOLDER / "1-1.json").write_text('{"id": "1-1", "kind": "stop", "prompts": [], "by": "yesterday"}')
    assert not trains(run)
    with pytest.raises(ConfigError, match="run does not train now"):
        ask(run, "stop")
    state = train(tiny_config(train__steps=4), run, [], resume=True)
    assert state.step == 4 and not events(run, "request")


def test_files_that_are_no_requests_are_removed(tmp_path):
    run = tmp_path / "run"

    class Scribbler(Recorder):
        def on_step(self, record):
            if record.step == 1:
                for name, text in {"a": "{", "b": '{"kind": "explode", "prompts": [], "by": ""}', "c": "[]"}.items():
                    (run / FOLDER / f"{name}.json").write_text(text)
            if record.step == 4:
                assert [p.name for p in (run / FOLDER).iterdir()] == [LOCK]

    assert train(tiny_config(train__steps=4), run, [Scribbler()]).step == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stop"], "does not train now"),
        (["stopp"], "WHAT is 'stopp'; it must be one of stop, checkpoint, sample; did you mean stop[?]"),
        (["checkpoint", "--prompt", "a"], "prompts have no effect beside checkpoint"),
        (["sample", "--prompt", " "], "a prompt has 1 to 2000 letters"),
        (["sample", *(f"--prompt={i}" for i in [0, *range(65)])], "65 prompts; a run draws at most 64"),
    ],
)  # fmt: skip
def test_who_cannot_be_told_is_told_so_in_one_line(tmp_path, monkeypatch, capsys, words, message):
    done = here(["tell", tmp_path, *words], tmp_path, monkeypatch, capsys)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and re.search(message, done.stderr), done.stderr


LOOKS_AT_EVERY_STEP = """
from daybreak import run_requests
run_requests.LOOK_SECONDS = 0.0
from daybreak.cli import entry
entry()
"""


def test_two_processes_stop_after_the_same_step(tmp_path, monkeypatch, capsys):
    run, program = tmp_path / "run", tmp_path / "looks.py"
    program.write_text(LOOKS_AT_EVERY_STEP)
    words = command(run, 2, train__steps=5000, train__save_minutes=60)
    begin = words.index("daybreak")
    words[begin - 1 : begin + 1] = [str(program)]  # in the place of -m daybreak
    process = subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: process.poll() is not None or (trains(run) and read_events(run)), "the run's first steps")
        for told in (["sample", "--prompt", "a blue ring"], ["checkpoint"], ["stop"]):
            done = here(["tell", run, *told], tmp_path, monkeypatch, capsys)
            assert done.returncode == 0, done.stderr
        assert "and saved" in done.stdout
        output, _ = process.communicate(timeout=LONG)
    except BaseException:
        stop(process)
        raise
    assert process.returncode == 0, output
    step = events(run)[-1]["step"]
    assert f"stopped at step {step}" in output and checkpoint_files.complete(run)[-1].name == f"step-{step:08d}"
    assert [e["kind"] for e in events(run, "request")] == ["sample", "checkpoint", "stop"]
    assert Path(next(iter(events(run, "samples")[0]["asked"].values()))).is_file()


def test_a_killed_run_is_known_to_be_dead_at_once(tmp_path):
    run = tmp_path / "run"
    words = command(run, 1, train__steps=5000)
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: trains(run), "the run")
        process.send_signal(signal.SIGSTOP)
        request = ask(run, "stop")
        assert waits(run, request)
    finally:
        stop(process)
    assert not trains(run) and not waits(run, request) and answer(run, request) is None
