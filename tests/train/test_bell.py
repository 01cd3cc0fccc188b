"""The bell: a real server that is POSTed to, real commands that are run; neither delays nor breaks the run."""

import json
import shlex
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ranks import SETTINGS, events
from rich.console import Console
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.train.bell import Bell, bell_target
from daybreak.train.guard import TrainingError
from daybreak.train.watch import AlarmRecord
from tests.waiting import wait_until


@contextmanager
def listening(status: int = 200, hold: threading.Event | None = None):
    """A web server that keeps what it is POSTed, as (headers, content); hold: it answers once that is set."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append((dict(self.headers), json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            if hold is not None:
                hold.wait(60)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/a-secret", heard
    finally:
        server.shutdown()
        server.server_close()


def trained(run: Path, bell: str, **settings: object):
    """What `daybreak train scenes --bell` ended with, here."""
    options = {**SETTINGS, "train.steps": 4, **{k.replace("__", "."): v for k, v in settings.items()}}
    words = ["train", "scenes", "--out", str(run), "--bell", bell, *(f"--{k}={v}" for k, v in options.items())]
    return CliRunner().invoke(app, words)


def noted_by(path: Path) -> str:
    """A command that adds what it is told to a file, a JSON line each time."""
    code = (
        "import json, os; told = {k[9:].lower(): v for k, v in os.environ.items() if k.startswith('DAYBREAK_')};"
        f"open({str(path)!r}, 'a').write(json.dumps(told) + chr(10))"
    )
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def test_the_end_of_a_run_is_posted_after_its_score(tmp_path):
    with listening() as (address, heard):
        done = trained(tmp_path / "run", address)
    assert done.exit_code == 0, done.output
    ((headers, told),) = heard
    assert headers["Content-Type"] == "application/json"
    score = json.loads((tmp_path / "run" / "score.json").read_text())["overall"]
    assert (told["event"], told["run"], told["step"], told["progress"]) == ("finished", str(tmp_path / "run"), 4, 1)
    assert told["score"] == score and told["loss"] == events(tmp_path / "run")[-1]["loss"]
    assert told["text"].startswith(f"{tmp_path / 'run'}: finished at step 4 (100%, loss ") and "score " in told["text"]
    assert "bell" not in (tmp_path / "run" / "config.yaml").read_text()  # whoever resumes the folder runs nothing


def test_a_command_hears_of_alarms_once_and_of_the_failure(tmp_path):
    file = tmp_path / "heard.jsonl"
    done = trained(tmp_path / "run", noted_by(file), train__steps=40, diffusion__noise_scale=3e38)
    assert isinstance(done.exception, TrainingError)
    alarm, failed = map(json.loads, file.read_text().splitlines())
    assert (alarm["event"], alarm["alarm"]) == ("alarm", "bad step") and "not applied" in alarm["text"]
    assert len(events(tmp_path / "run", "bad_step")) == 10
    assert failed["event"] == "failed" and "without a finite gradient" in failed["text"]


@pytest.mark.parametrize(
    ("bell", "trouble"),
    [
        ("echo no such room >&2; exit 3", "its command ended with code 3: no such room"),
        ("http://127.0.0.1:9/a-secret", "127.0.0.1 cannot be reached: [Errno 111] Connection refused"),
        (None, "127.0.0.1 answers 500 Internal Server Error"),
    ],
)
def test_a_bell_that_fails_is_told_in_a_line_and_changes_nothing(tmp_path, bell, trouble):
    with listening(status=500) as (address, _):
        done = trained(tmp_path / "run", bell or address)
    assert done.exit_code == 0, done.output
    (line,) = events(tmp_path / "run", "bell")
    assert line["text"] == f"the bell did not ring for 'finished': {trouble}"
    assert line["text"] in done.output and "secret" not in line["text"] + done.output


def test_nobody_waits_for_a_bell_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr("daybreak.train.bell.LAST_SECONDS", 0.3)
    hold = threading.Event()
    with listening(hold=hold) as (address, heard):
        bell = Bell(address, Console(quiet=True))
        bell.begin(tmp_path)
        began = time.monotonic()
        with bell:
            for name in ("one", "another"):
                bell.on_alarm(AlarmRecord(1, name, "look"))
            assert time.monotonic() - began < 0.3
            wait_until(lambda: heard)
        assert not hold.is_set() and len(heard) == 1  # the rest waits behind the first, the run does not
        hold.set()
        wait_until(lambda: len(heard) == 3)
    assert [told["event"] for _, told in heard] == ["alarm", "alarm", "finished"]


def test_a_command_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("daybreak.train.bell.COMMAND_SECONDS", 0.2)
    with Bell("sleep 600 & sleep 600", Console(quiet=True)) as bell:
        bell.begin(tmp_path)
    (line,) = events(tmp_path, "bell")
    assert "its command took longer than" in line["text"]


@pytest.mark.parametrize("text", ["", " ", "ftp://host/x", "https://", "http:///x"])
def test_what_is_no_bell_is_refused(text):
    with pytest.raises(ConfigError, match="^--bell "):
        bell_target(text, "--bell")
