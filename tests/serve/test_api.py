"""The API of a running server, through OpenAI's own client and through plain HTTP."""

import base64
import io
import json

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.serve.running import drawn_here
from tests.waiting import LONG, wait_until


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def pixels(b64: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64))))


def test_the_openai_client_gets_the_pictures_that_sample_draws(client, finished_run):
    answer = client.images.generate(prompt="a blue square", n=2, extra_body={"seed": 5})
    for i, picture in enumerate(answer.data):
        expected = drawn_here(finished_run, "a blue square", 5 + i)
        assert np.abs(pixels(picture.b64_json).astype(int) - expected).max() <= 1
    assert np.abs(pixels(answer.data[0].b64_json).astype(int) - pixels(answer.data[1].b64_json)).max() > 10
    assert [m.id for m in client.models.list()] == [finished_run.name]


def test_a_picture_does_not_depend_on_its_company(server):
    alone = server.draw("a green triangle", seed=1).json()["data"][0]["b64_json"]
    together = server.draw("a green triangle", seed=0, n=6).json()["data"][1]["b64_json"]
    assert np.abs(pixels(alone).astype(int) - pixels(together)).max() <= 1


def test_the_settings_are_inside_the_png_and_draw_it_again(server, finished_run):
    settings = {"size": "48x32", "steps": 4, "guidance": 2.5, "negative_prompt": "grey", "seed": 77}
    first = server.draw("a large red circle é ✓", **settings).json()["data"][0]
    image = Image.open(io.BytesIO(base64.b64decode(first["b64_json"])))
    assert image.size == (48, 32)
    inside = json.loads(image.text["parameters"])
    assert inside == settings | {"prompt": "a large red circle é ✓", "model": finished_run.name}
    again = server.http.post("/v1/images/generations", json=inside).json()["data"][0]
    assert again["b64_json"] == first["b64_json"]


def test_settings_matter(server):
    plain = {"seed": 3, "steps": 4, "guidance": 1.0}
    base = server.draw(**plain).json()["data"][0]["b64_json"]
    for change in ({"seed": 4}, {"steps": 3}, {"guidance": 4.0}):
        assert server.draw(**(plain | change)).json()["data"][0]["b64_json"] != base
    guided = server.draw(**(plain | {"guidance": 4.0})).json()["data"][0]["b64_json"]
    negative = server.draw(**(plain | {"guidance": 4.0, "negative_prompt": "a blue square"})).json()["data"][0]
    assert negative["b64_json"] != guided


def test_the_openai_client_streams_intermediate_pictures(client):
    stream = client.images.generate(
        prompt="a circle", stream=True, partial_images=2, extra_body={"seed": 9, "steps": 6}
    )
    events = list(stream)
    assert [e.type for e in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [e.partial_image_index for e in events[:2]] == [0, 1]
    frames = [pixels(e.b64_json).astype(int) for e in events]
    assert frames[0].shape == frames[2].shape
    errors = [np.abs(f - frames[2]).mean() for f in frames]
    assert errors[0] > errors[1] > errors[2] == 0  # the picture emerges


def test_streams_of_several_pictures_say_which_is_which(server):
    with server.http.stream(
        "POST", "/v1/images/generations", json={"prompt": "x", "n": 3, "stream": True, "partial_images": 1, "seed": 1}
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data:")]
    events = [json.loads(line[5:]) for line in lines]
    done = {e["image_index"]: e["seed"] for e in events if e["type"].endswith("completed")}
    assert done == {0: 1, 1: 2, 2: 3}
    assert sum(e["type"].endswith("partial_image") for e in events) == 3


def test_pictures_by_url(client, server):
    answer = client.images.generate(prompt="x", response_format="url", extra_body={"seed": 2})
    picture = server.http.get(answer.data[0].url)
    assert picture.headers["content-type"] == "image/png"
    same = server.draw("x", seed=2).json()["data"][0]["b64_json"]
    assert base64.b64encode(picture.content).decode() == same


def test_unknown_models_are_named(client):
    with pytest.raises(openai.NotFoundError, match="no model is named 'dall-e-3'; there are"):
        client.images.generate(prompt="x", model="dall-e-3")


def test_health_and_figures(server):
    assert server.http.get("/health").json() == {"status": "ok"}
    assert server.http.get("/ready").json() == {"status": "ready"}
    name = 'daybreak_pictures_total{model="run"}'
    before = server.metric(name)
    assert server.draw(n=3).status_code == 200
    assert server.metric(name) == before + 3
    assert server.metric('daybreak_queue_length{model="run"}') == 0
    assert server.metric("process_resident_memory_bytes") > 1e7
    wait_until(lambda: server.metric('daybreak_drawing_memory_bytes{model="run",process="0"}') > 1e8, "the figures")
    assert server.metric('daybreak_queue_seconds_count{model="run"}') >= 3


def test_the_page_and_what_it_loads(server):
    page = server.http.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("style.css", "app.js"):
        assert f"/static/{name}" in page.text
        assert server.http.get(f"/static/{name}").status_code == 200
    assert "//" not in page.text.replace("http://www.w3.org", "").replace("<!--", "")  # nothing from elsewhere


def test_a_client_that_leaves_frees_the_model(server):
    cancelled, steps = (
        'daybreak_requests_total{model="run",outcome="cancelled"}',
        'daybreak_step_seconds_count{model="run"}',
    )
    before, taken = server.metric(cancelled), server.metric(steps)
    patience = httpx.Timeout(LONG, read=0.5)
    with pytest.raises(httpx.ReadTimeout):  # the client leaves: the drawing must end with it
        server.http.post("/v1/images/generations", json={"prompt": "slow", "steps": 5000}, timeout=patience)
    assert server.draw("fast").status_code == 200
    wait_until(lambda: server.metric(cancelled) == before + 1, "the request of a client that left to be cancelled")
    assert server.metric(steps) - taken < 5000
