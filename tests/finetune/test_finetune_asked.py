"""A fine-tuning run does what it is told from outside."""

import threading

import tiny
from PIL import Image
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.run_folder import read_events
from daybreak.run_requests import trains
from tests.waiting import wait_until


def test_a_fine_tuning_run_draws_and_stops_as_it_is_told(base, pictures, tmp_path):
    run, told = tmp_path / "run", []

    def events(kind):
        return [e for e in read_events(run) if e["event"] == kind]

    def tell():
        wait_until(lambda: trains(run) and events("step"))
        for words in (["sample", "--prompt", "a red circle"], ["stop"]):
            told.append(CliRunner().invoke(app, ["tell", str(run), *words]))

    teller = threading.Thread(target=tell)
    teller.start()
    settings = {"steps": 3000, "sample_every": 100_000, "save_every": 100_000}
    state = tiny.finetune(base, pictures, run, bell=f'echo "$DAYBREAK_TEXT" > {tmp_path}/heard', **settings)
    teller.join()
    assert f"{run}: stopped at step {state.step}" in (tmp_path / "heard").read_text()
    assert [t.exit_code for t in told] == [0, 0], [t.output for t in told]
    assert state.step == events("request")[-1]["step"] == events("step")[-1]["step"]
    (path,) = next(e for e in events("samples") if e["asked"])["asked"].values()
    assert Image.open(path).size == (16, 16)
