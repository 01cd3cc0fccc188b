"""Servers that write prompts out: what a client is told, and how it asks for its prompt as it stands."""

import base64
import io
import json
import socket

import numpy as np
import openai
import pytest
from PIL import Image
from starlette.testclient import TestClient

from daybreak.config import ConfigError
from daybreak.data.scenes.expand import expand
from daybreak.sampling.expand import open_expander
from daybreak.serve.app import create_app
from daybreak.serve.server import ImageServer
from daybreak.serve.settings import ServeSettings
from tests.chat_server import chatting
from tests.serve.running import drawn_here
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def demo_server(demo_run, serving):
    with serving(demo_run) as running:
        yield running


def image(picture: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture["b64_json"])))


def test_the_answer_says_what_was_drawn(demo_server, demo_run):
    (card,) = demo_server.http.get("/v1/models").json()["data"]
    assert card["expands"] is True
    answer = demo_server.draw("a red circle", seed=5, n=2).json()["data"]
    for i, picture in enumerate(answer):
        assert picture["revised_prompt"] == expand(["a red circle"], 5 + i, [0])[0]
        expected = drawn_here(demo_run, picture["revised_prompt"], 5 + i)
        assert np.abs(np.asarray(image(picture)).astype(int) - expected).max() <= 1
    inside = json.loads(image(answer[0]).text["parameters"])
    assert (inside["prompt"], inside["revised_prompt"]) == ("a red circle", answer[0]["revised_prompt"])
    again = demo_server.http.post("/v1/images/generations", json=inside).json()["data"]
    assert again[0]["b64_json"] == answer[0]["b64_json"]


def test_a_prompt_can_be_drawn_as_it_stands(demo_server, demo_run):
    (plain,) = demo_server.draw("a red circle", seed=5, expand=False).json()["data"]
    assert "revised_prompt" not in plain
    assert np.abs(np.asarray(image(plain)).astype(int) - drawn_here(demo_run, "a red circle", 5)).max() <= 1
    inside = json.loads(image(plain).text["parameters"])
    assert inside["expand"] is False and "revised_prompt" not in inside
    assert demo_server.http.post("/v1/images/generations", json=inside).json()["data"] == [plain]
    (foreign,) = demo_server.draw("a photo of a dog", seed=5).json()["data"]
    assert "revised_prompt" not in foreign  # nothing was made of it


def test_openais_client_and_streams_are_told_too(demo_server):
    client = openai.OpenAI(base_url=f"{demo_server.url}/v1", api_key="none", max_retries=0)
    answer = client.images.generate(prompt="two rings", extra_body={"seed": 1})
    assert answer.data[0].revised_prompt == expand(["two rings"], 1, [0])[0]
    body = {"prompt": "two rings", "stream": True, "partial_images": 1, "seed": 1}
    with demo_server.http.stream("POST", "/v1/images/generations", json=body) as stream:
        events = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]
    assert [e.get("revised_prompt") for e in events] == [None, answer.data[0].revised_prompt]


def served(run, **settings) -> ImageServer:
    return ImageServer([str(run)], ServeSettings(**settings))


def test_an_operator_may_leave_it_out_or_name_another(demo_run, finished_run):
    with TestClient(create_app(served(demo_run, expand="none"))) as http:
        wait_until_ready(http)
        assert http.get("/v1/models").json()["data"][0]["expands"] is False
        (picture,) = http.post("/v1/images/generations", json={"prompt": "a red circle", "seed": 5}).json()["data"]
        assert "revised_prompt" not in picture
    open_expander.cache_clear()
    with chatting() as chat, TestClient(create_app(served(finished_run, expand=chat.url))) as http:
        wait_until_ready(http)
        body = {"prompt": "a red circle", "seed": 5}
        (picture,) = http.post("/v1/images/generations", json=body).json()["data"]
        assert picture["revised_prompt"] == "a red circle, in detail"
        # A chat model that is gone is told to the client, whom a plain prompt still serves.
        chat.answers["/v1/chat/completions"] = (503, {})
        answer = http.post("/v1/images/generations", json=body)
        assert answer.status_code == 500 and "expand=false takes it as it stands" in answer.json()["error"]["message"]
        assert http.post("/v1/images/generations", json=body | {"expand": False}).status_code == 200


def test_a_chat_model_that_is_absent_is_told_before_the_server_starts(finished_run):
    open_expander.cache_clear()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="no chat model answers at /models"):
            served(finished_run, expand=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")


def wait_until_ready(http: TestClient) -> None:
    wait_until(lambda: http.get("/ready").status_code == 200, "the server to be ready")
