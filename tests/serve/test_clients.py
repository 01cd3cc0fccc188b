"""Requests as the clients that exist send them: the official one for all its routes, and bodies of others."""

import base64
import io
import json

import numpy as np
import openai
import pytest
from huggingface_hub import InferenceClient
from PIL import Image

from daybreak.config import ConfigError
from daybreak.serve.blocklist import Blocklist
from daybreak.serve.models import ModelInfo
from daybreak.serve.sizes import nearest_size
from tests.serve.running import drawn_here

ACCEPTED = [
    ({"quality": "low"}, ["quality"]),
    ({"quality": "hd", "style": "vivid"}, ["quality", "style"]),
    (
        {"quality": "max", "complexity": "high", "safety_identifier": "x"},
        ["quality", "complexity", "safety_identifier"],
    ),
    ({"quality": "auto", "moderation": "low", "user": "someone"}, ["moderation", "user"]),
    ({"background": "auto", "size": "auto", "n": 1}, []),
    ({"input_fidelity": "high"}, ["input_fidelity"]),
    ({"output_format": "png", "output_compression": 80}, ["output_compression"]),
    (dict.fromkeys(("n", "size", "quality", "style", "user", "background", "model")), []),
]


def image_of(answer) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))


@pytest.mark.parametrize(("fields", "ignored"), ACCEPTED, ids=lambda x: str(x)[:40])
def test_fields_without_effect_are_accepted_and_listed(server, fields, ignored):
    answer = server.draw(**fields, seed=3)
    assert answer.status_code == 200, answer.text
    assert answer.json()["ignored"] == ignored
    assert answer.headers.get("x-ignored", "") == ", ".join(ignored)
    assert answer.json()["data"] == server.draw(seed=3).json()["data"]  # no effect indeed


def test_a_transparent_background_is_refused_by_name(server):
    answer = server.draw(background="transparent")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "background", "invalid_value")
    assert "opaque" in error["message"]


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_other_formats_hold_the_same_picture_and_its_parameters(server, kind, name):
    plain = image_of(server.draw("a ✓", seed=3))
    best = server.draw("a ✓", seed=3, output_format=kind)
    small = server.draw("a ✓", seed=3, output_format=kind, output_compression=5)
    assert best.json()["output_format"] == kind
    picture = image_of(best)
    assert picture.format == name
    difference = np.abs(np.asarray(picture).astype(int) - np.asarray(plain)).mean()
    assert difference < 8  # of 255: both halve the resolution of colour
    assert len(small.json()["data"][0]["b64_json"]) < len(best.json()["data"][0]["b64_json"])
    assert json.loads(picture.getexif()[0x010E])["prompt"] == "a ✓"
    url = server.draw("a ✓", seed=3, output_format=kind, response_format="url").json()["data"][0]["url"]
    assert server.http.get(url).headers["content-type"] == f"image/{kind}"


def test_a_size_that_the_model_does_not_have_is_drawn_as_the_nearest(server):
    answer = server.draw(size="1536x1024")
    body = answer.json()
    assert body["requested_size"] == "1536x1024"
    assert answer.headers["x-size"] == f"{body['size']}; requested=1536x1024"
    assert f"{image_of(answer).width}x{image_of(answer).height}" == body["size"]
    assert "requested_size" not in server.draw(size=body["size"]).json()


def test_the_nearest_size():
    info = ModelInfo("m", 512, 16, 1024, 4, 1.0, 0, previews=True)
    assert nearest_size(info, 1024, 1024) == (1024, 1024)
    assert nearest_size(info, 500, 525) == (496, 528)  # a side that does not divide is rounded
    assert nearest_size(info, 2048, 2048) == (512, 512)  # what is too large: its shape, at the trained number of pixels
    assert nearest_size(info, 3000, 1500) == (720, 368)
    assert nearest_size(info, 90_000, 1) == (1024, 16)


def test_tokens_are_counted(server):
    one = server.draw("a red circle").json()["usage"]
    two = server.draw("a red circle", n=2).json()["usage"]
    long = server.draw("a red circle above a large blue square").json()["usage"]
    assert 0 < one["input_tokens"] < long["input_tokens"]
    assert two["output_tokens"] == 2 * one["output_tokens"] > 0
    assert one["total_tokens"] == one["input_tokens"] + one["output_tokens"]


def test_errors_have_openais_codes(server):
    codes = {
        "unknown_parameter": {"stepz": 3},
        "missing_required_parameter": {"prompt": None},
        "invalid_value": {"steps": "many"},
        "string_above_max_length": {"prompt": "x" * 4001},
        "model_not_found": {"model": "gpt-image-2"},
    }
    for code, fields in codes.items():
        body = {k: v for k, v in ({"prompt": "x"} | fields).items() if v is not None}
        error = server.http.post("/v1/images/generations", json=body).json()["error"]
        assert (error["code"], error["param"]) == (code, next(iter(fields)))


def test_names_formats_and_prompts_as_the_operator_has_them(finished_run, tmp_path, serving):
    words = tmp_path / "words.txt"
    words.write_text("# not drawn\nforbidden   fruit\n")
    with serving(
        f"main={finished_run}", "--alias", "gpt-image-1=main", "--any-model", "--response-format", "url", "--strict",
        "--limit-prompt", 30, "--blocklist", words,
    ) as server:  # fmt: skip
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        for name in ("gpt-image-1", "dall-e-2", "main"):  # an alias, an unknown name, the model
            answer = client.images.generate(prompt="x", model=name, extra_body={"seed": 1})
            assert server.http.get(answer.data[0].url).status_code == 200
            assert answer.data[0].b64_json is None
        assert client.models.retrieve("gpt-image-1").id == "main"
        with pytest.raises(openai.BadRequestError, match="does not draw 1024x1024"):
            client.images.generate(prompt="x", size="1024x1024")
        for prompt, code in (("y" * 31, "string_above_max_length"), ("a Forbidden\nfruit!", "moderation_blocked")):
            with pytest.raises(openai.BadRequestError) as refused:
                client.images.generate(prompt=prompt)
            assert refused.value.code == code
        assert server.draw("forbidden fruits").status_code == 200


@pytest.mark.parametrize(("text", "words"), [(None, "can't be read"), ("# only\n\n", "holds no word")])
def test_a_wrong_blocklist_is_named(tmp_path, text, words):
    file = tmp_path / "words.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        Blocklist(file)


def test_hugging_faces_client_gets_the_picture_that_sample_draws(server, finished_run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # it would not even ask this machine
    client = InferenceClient(model=f"{server.url}/models/{finished_run.name}", token="none")
    picture = client.text_to_image("a blue square", seed=5)
    assert np.abs(np.asarray(picture).astype(int) - drawn_here(finished_run, "a blue square", 5)).max() <= 1
    wide = client.text_to_image("x", width=48, height=32, num_inference_steps=2, guidance_scale=1.0)
    assert wide.size == (48, 32)
