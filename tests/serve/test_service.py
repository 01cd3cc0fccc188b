"""What an operator sees and decides: the access log, refusals by their reason, a check of pictures."""

import json
import sys

import pytest

from daybreak.config import ConfigError
from daybreak.serve.safety import SafetyCheck
from tests.in_process import here
from tests.waiting import wait_until

CHECK = """
import io, os, sys
from PIL import Image
image = Image.open(io.BytesIO(sys.stdin.buffer.read()))
assert image.width > 0
sys.exit({"withheld": 1, "broken": 7}.get(os.environ["DAYBREAK_PROMPT"], 0))
"""


def test_the_access_log_and_refusals(finished_run, tmp_path, serving):
    log, words = tmp_path / "access.jsonl", tmp_path / "words.txt"
    words.write_text("forbidden\n")
    with serving(finished_run, "--access-log", log, "--blocklist", words, "--queue", 2) as server:
        assert server.draw("a secret", n=2, seed=3, steps=2).status_code == 200
        assert server.draw("forbidden").status_code == 400
        assert server.draw("x", n=3).status_code == 400
        server.http.get("/health")
        assert server.metric('daybreak_refusals_total{model="run",reason="prompt"}') == 1
        wait_until(lambda: "/metrics" in log.read_text())  # a line is written after its answer is sent
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    drawn = next(line for line in lines if line.get("pictures"))
    assert (drawn["status"], drawn["model"], drawn["pictures"], drawn["seed"]) == (200, "run", 2, 3)
    assert drawn["seconds"] > 0 and drawn["bytes"] > 100 and drawn["client"] == "127.0.0.1"
    assert any((line["path"], line["status"]) == ("/health", 200) for line in lines)
    assert "secret" not in log.read_text()


def test_prompts_are_logged_where_that_is_asked_for(finished_run, tmp_path, serving):
    log = tmp_path / "access.jsonl"
    with serving(finished_run, "--access-log", log, "--log-prompts") as server:
        server.draw("a secret", steps=1)
        wait_until(lambda: "/images" in log.read_text())
    assert [json.loads(line).get("prompt") for line in log.read_text().splitlines()].count("a secret") == 1


def test_a_check_withholds_pictures(finished_run, tmp_path, serving):
    script = tmp_path / "check.py"
    script.write_text(CHECK)
    with serving(finished_run, "--safety", f"{sys.executable} {script}") as server:
        assert server.draw("fine", steps=1).status_code == 200
        for prompt, status, code in (("withheld", 400, "moderation_blocked"), ("broken", 500, None)):
            answer = server.draw(prompt, steps=1)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            stream = server.draw(prompt, steps=3, stream=True, partial_images=2).text
            assert "event: error" in stream and "b64_json" not in stream
        assert "the safety check ended with 7" in "".join(server.lines)
        assert server.metric('daybreak_requests_total{model="run",outcome="withheld"}') == 2


def test_a_check_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="--safety nowhere: there is no such command"):
        SafetyCheck("nowhere")


def test_loadtest_counts_what_the_server_drew(server, tmp_path, monkeypatch, capsys):
    before = server.metric('daybreak_pictures_total{model="run"}')
    words = ["loadtest", server.url, "--requests", "12", "--clients", "4", "--steps", "2", "--json"]
    facts = json.loads(here(words, tmp_path, monkeypatch, capsys).stdout)
    assert facts["outcomes"] == {"200": 12}
    assert server.metric('daybreak_pictures_total{model="run"}') == before + 12
    assert 0 < facts["p50_seconds"] <= facts["p95_seconds"] <= facts["p99_seconds"] <= facts["seconds"]
    assert facts["pictures_a_second"] == pytest.approx(12 / facts["seconds"], rel=0.01)
