"""Processes that draw come and go: killed under load, no accepted request is lost."""

import base64
import concurrent.futures
import io
import os
import signal
import subprocess
import time
from multiprocessing import Pipe

import numpy as np
import pytest
import torch
from PIL import Image

from daybreak.config import ConfigError
from daybreak.serve.drawing import Drawing
from daybreak.serve.jobs import Order
from daybreak.serve.line import Line
from daybreak.serve.metrics import Metrics
from daybreak.serve.open import open_served
from daybreak.serve.settings import ServeSettings
from daybreak.serve.wire import Begun, Cancel, Draw
from tests.program import children
from tests.waiting import LONG, wait_until


def pixels_of(answer) -> np.ndarray:
    return pixels_of_b64(answer.json()["data"][0]["b64_json"])


def pixels_of_b64(b64: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64)))).astype(int)


def drawers(server) -> list[int]:
    """The processes that draw for a server."""
    return children(server.process.pid)


def test_a_killed_process_costs_no_accepted_request(finished_run, serving):
    with serving(finished_run, "--max-steps", 5000) as server, concurrent.futures.ThreadPoolExecutor(12) as clients:
        expected = [pixels_of(server.draw("x", seed=i, steps=120)) for i in range(3)]
        steps = 'daybreak_step_seconds_count{model="run"}'
        before = server.metric(steps)
        answers = [clients.submit(server.draw, "x", seed=i % 3, steps=120) for i in range(12)]
        wait_until(lambda: server.metric(steps) > before, "the drawing to begin")
        (pid,) = drawers(server)
        os.kill(pid, signal.SIGKILL)
        for i, answer in enumerate(answers):
            assert answer.result().status_code == 200
            drawn = pixels_of(answer.result())  # the same picture, drawn again, in other company
            assert np.abs(drawn - expected[i % 3]).max() <= 1
        assert drawers(server) != [pid]
        assert "ended (signal 9)" in "".join(server.lines)
        assert server.terminate() == 0


def test_sigterm_waits_for_what_was_accepted(finished_run, serving):
    with serving(finished_run, "--max-steps", 5000) as server, concurrent.futures.ThreadPoolExecutor(4) as clients:
        steps = 'daybreak_step_seconds_count{model="run"}'
        answers = [clients.submit(server.draw, "x", seed=i, steps=80) for i in range(4)]
        wait_until(lambda: server.metric(steps) > 0, "the drawing to begin")
        pids = drawers(server)
        assert server.terminate() == 0
        assert [answer.result().status_code for answer in answers] == [200] * 4
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_killed_server_leaves_no_process_behind(finished_run, serving):
    with serving(finished_run, "--processes", 2) as server:
        pids = drawers(server)
        assert len(pids) == 2
        server.process.kill()
        server.process.wait(LONG)

        def gone() -> bool:
            states = subprocess.run(["ps", "-o", "stat=", *map(str, pids)], capture_output=True, text=True, check=False)
            return all(state.startswith("Z") for state in states.stdout.split())  # ended, or ended and not yet reaped

        wait_until(gone, "the processes to end")


def test_pictures_go_to_all_processes_and_are_the_same(server, finished_run, serving):
    with serving(finished_run, "--processes", 2) as two:
        answers = [s.draw("a red circle", n=6, seed=1, steps=4).json()["data"] for s in (two, server)]
        assert [p["seed"] for p in answers[0]] == [p["seed"] for p in answers[1]]
        pictures = [np.asarray([pixels_of_b64(p["b64_json"]) for p in of]) for of in answers]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_model_that_cannot_be_opened_is_told_by_name(tmp_path, finished_run):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in finished_run.rglob("*"):
        if file.is_file():
            target = broken / file.relative_to(finished_run)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"" if file.suffix == ".safetensors" else file.read_bytes())
    with pytest.raises(ConfigError, match="broken"):
        Line(str(broken), ServeSettings(), Metrics())


def test_a_step_of_a_picture_that_was_just_given_up_harms_no_other(finished_run):
    here, there = Pipe()
    model = open_served(str(finished_run), ServeSettings(), torch.device("cpu"))
    drawing = Drawing(there, model, ServeSettings())
    order = Order("x", "", 32, 32, steps=4, guidance=1.0, seed=1)
    drawing._take(Draw(1, order, time.monotonic() + LONG, frozenset({1})))
    (job,) = drawing._worker.queue.first(1, 0)
    (row,) = model.begin([job])
    drawing._take(Cancel(1))
    drawing._begun([])  # others begin, and what was given up is forgotten
    model.advance([row])  # which tells of a preview
    assert here.recv() == Begun(()) and not here.poll()
