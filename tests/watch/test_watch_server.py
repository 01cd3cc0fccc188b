"""`daybreak watch` over real and written runs: what it answers, what it refuses, and what a mistake is told."""

import json
import shutil
import socket
import time

import pytest

from daybreak.evaluate import samples_during_training
from daybreak.run_folder import read_events
from daybreak.run_notes import Notes, read_notes
from daybreak.run_requests import is_judged, judging
from daybreak.train.deadline import EXIT_SECONDS
from daybreak.train.loop import train
from daybreak.watch.app import make_app
from daybreak.watch.find import find_runs
from daybreak.watch.report import write_report
from daybreak.watch.run import WatchedRun
from tests.conftest import tiny_config
from tests.frozen import frozen_in
from tests.in_process import here
from tests.watch.watched import step_line, watching, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory, finished_run):
    """A folder of runs: one of real training, one deeper, one of another version, one that has just begun."""
    folder = tmp_path_factory.mktemp("watched") / "runs"
    shutil.copytree(finished_run, folder / "real")
    write_run(folder / "ablation" / "a" / "seed-0", 30)
    other = write_run(folder / "other", 5)
    (other / "config.yaml").write_text("recipe: future\nmodel:\n  holograms: 3\n")
    write_run(folder / "begun", 0)
    (folder / "no-run").mkdir()
    return folder


@pytest.fixture(scope="module")
def server(runs):
    with watching(runs) as found:
        yield found


def test_all_runs_at_a_glance(server, runs):
    found = {r["name"]: r for r in server.http.get("/api/runs").json()}
    assert set(found) == {"real", "ablation/a/seed-0", "other", "begun"} == set(find_runs([runs]))
    real = found["real"]
    assert real["recipe"] == "tiny" and real["step"] == 20 and real["progress"] == 1 and real["begun"] is not None
    assert len(real["pictures"]) == 4 and real["curve"][-1][0] == real["images"] == 160
    for path in real["pictures"]:
        assert server.http.get("/file", params={"name": "real", "path": path}).headers["content-type"] == "image/png"
    assert found["ablation/a/seed-0"]["curve"][0] == [1, 2] and found["begun"]["state"] == "waiting"
    shutil.copytree(runs / "other", runs / "new")  # comes while the page is open
    assert "new" in {r["name"] for r in server.http.get("/api/runs").json()}
    shutil.rmtree(runs / "new")
    assert "new" not in {r["name"] for r in server.http.get("/api/runs").json()}


def test_a_run_that_was_trained_tells_all_of_it(server, finished_run):
    told = server.run("real")
    begun, samples = told["events"]
    assert begun["event"] == "begin" and begun["command"] and begun["device"] == "1 CPU cores"
    assert samples["folder"] == "samples/step-00000020/" and len(samples["pictures"]) == samples_during_training.PROMPTS
    logged = [json.loads(line) for line in (finished_run / "log.jsonl").read_text().splitlines()]
    losses = [e["loss"] for e in logged if e["event"] == "step"]
    assert told["curves"]["loss"]["value"] == pytest.approx(losses, rel=1e-5)
    assert told["still"]["settings"]["model.width"] == "32" and told["still"]["trouble"] is None
    inside = server.http.get("/api/inside", params={"name": "real", "folder": samples["folder"]}).json()
    word = inside["words"][0]["words"][0]
    assert word["columns"] == 8 and 0 < word["share"] < 1 and len(inside["noise"][0]["pictures"]) == 6
    # What the judge saw is what it counted.
    followed = [p["followed"] for p in samples["pictures"]]
    assert samples["followed"] == pytest.approx(sum(followed) / samples_during_training.PROMPTS)
    for p in samples["pictures"]:
        assert p["followed"] == all(t["right"] for t in p["told"])
        assert all(t["right"] != bool(t["saw"]) for t in p["told"])


def test_a_run_of_another_version_shows_its_curves_and_says_so(server):
    told = server.run("other")
    assert told["curves"]["loss"]["step"] == [1, 2, 3, 4, 5]
    assert told["still"]["trouble"].startswith("of another version: ") and "holograms" in told["still"]["trouble"]
    assert told["still"]["settings"]["model.holograms"] == "3"


@pytest.mark.parametrize(
    "path", ["config.yaml", "../other/config.yaml", "../../secret.png", "/etc/passwd", "no.png", ""]
)
def test_nothing_but_pictures_of_the_run_leaves(server, runs, path):
    (runs.parent / "secret.png").write_bytes(b"\x89PNG")
    assert server.http.get("/file", params={"name": "real", "path": path}).status_code == 404


def test_who_asks_for_what_is_not_there_is_told(server):
    assert server.http.get("/api/run", params={"name": "nobody"}).json() == {"detail": "there is no run nobody here"}
    assert server.http.get("/api/inside", params={"name": "real", "folder": "../"}).status_code == 404
    assert server.http.get("/", headers={"Host": "elsewhere.example"}).status_code == 400


def test_notes_and_requests_by_the_page(server, runs):
    kept = {"name": "real", "text": "a <b>note", "favourite": True}
    assert server.http.post("/api/notes", json=kept).status_code == 200
    assert read_notes(runs / "real") == Notes("a <b>note", True)
    assert server.run("real")["still"]["notes"] == {"text": "a <b>note", "favourite": True}
    refused = server.http.post("/api/ask", json={"name": "real", "kind": "stop"})
    assert refused.status_code == 400 and "does not train now" in refused.json()["detail"]
    elsewhere = server.http.post("/api/notes", json=kept, headers={"Sec-Fetch-Site": "cross-site"})
    assert elsewhere.status_code == 403
    assert (
        server.http.post("/api/notes", content=json.dumps(kept), headers={"Content-Type": "text/plain"}).status_code
        == 422
    )


def test_others_may_look_and_no_more(runs):
    from fastapi.testclient import TestClient

    client = TestClient(make_app([runs], ["*"], controls=False))
    assert "data-controls>" not in client.get("/").text and len(client.get("/api/runs").json()) >= 4
    assert client.post("/api/notes", json={"name": "real", "text": "x", "favourite": False}).status_code == 403


def test_it_ends_when_told(runs):
    with watching(runs / "real") as server:
        assert "watching real at" in server.lines[0]
        assert server.http.get("/").status_code == 200
        assert server.terminate() == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere: no such folder; name a run, or a folder of runs"),
        (["."], ". holds no run (no config.yaml or finetune.yaml in it, nor 3 folders deep)"),
        ([], "runs: no such folder"),
        (["run", "--host", "0.0.0.0"], "--host 0.0.0.0 lets others in: give --anonymous"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, words, told):
    if "run" in words:
        write_run(tmp_path / "run", 1)
    done = here(["watch", *words], tmp_path, monkeypatch, capsys)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(f"error: {told}")


def test_a_port_that_is_taken_is_one_line(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "run", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = here(["watch", "run", "--port", port], tmp_path, monkeypatch, capsys)
    assert done.returncode == 2 and done.stderr.strip() == (
        f"error: --host 127.0.0.1 --port {port} cannot be taken: Address already in use"
    )


def test_where_a_run_stands(tmp_path):
    folder = write_run(tmp_path / "run", 30)
    assert (
        WatchedRun(folder).tell()["facts"]["state"] == "training"
    )  # by an earlier version, which holds no lock: it wrote just now
    begin = json.dumps({"event": "begin", "step": 0, "time": time.time()}) + "\n"
    log = (folder / "log.jsonl").read_text()
    (folder / "log.jsonl").write_text(begin + log)
    assert WatchedRun(folder).tell()["facts"]["state"] == "stopped"  # nobody holds the lock
    (folder / "log.jsonl").write_text(begin + log + step_line(100))
    with judging(folder):
        assert WatchedRun(folder).tell()["facts"]["state"] == "judging"
    assert WatchedRun(folder).tell()["facts"]["state"] == "finished"
    assert not is_judged(folder) and not list(folder.glob("*.lock"))


def test_the_time_left_holds_what_comes_between_and_after_the_steps(tmp_path):
    train(tiny_config(train__steps=8, train__sample_every=0.25), tmp_path / "run", [])
    events = read_events(tmp_path / "run")
    beside = {e["step"]: e["seconds_to_end"] - e["seconds_left"] for e in events if e["event"] == "step"}
    took = json.loads(next((tmp_path / "run" / "checkpoints").glob("*/state.json")).read_text())["durations"]
    assert beside[1] == pytest.approx(EXIT_SECONDS, abs=0.01)  # nothing is known yet of what drawing takes
    # The nine prompts of the evaluation, each as long as the quickest picture so far, and the last samples at least.
    assert all(beside[step] > beside[1] + 9 * took["picture"] for step in range(3, 9))


def test_the_report_is_the_page_with_all_that_it_shows(runs, finished_run):
    frozen = frozen_in(write_report(runs / "real"))
    assert (
        frozen["name"] == "real" and frozen["told"]["curves"].keys() == WatchedRun(finished_run).tell()["curves"].keys()
    )
    asked = [p["file"] for e in frozen["told"]["events"] if e["event"] == "samples" for p in e["pictures"]]
    assert len(asked) == samples_during_training.PROMPTS and all(
        frozen["files"][f].startswith("data:image/png;base64,") for f in asked
    )


def test_the_report_of_a_run_that_is_cut_off_anywhere(runs, tmp_path):
    shutil.copytree(runs / "real", tmp_path / "run")
    shown = tmp_path / "run" / "samples" / "step-00000020"
    (shown / "prompt-03.png").unlink()
    (shown / "prompt-04.png").write_bytes(b"\x89PNG half")
    (tmp_path / "run" / "score.json").write_text("{half")
    frozen = frozen_in(write_report(tmp_path / "run"))
    assert "samples/step-00000020/prompt-03.png" not in frozen["files"]
    assert "samples/step-00000020/prompt-04.png" not in frozen["files"]
    assert "samples/step-00000020/prompt-05.png" in frozen["files"]
