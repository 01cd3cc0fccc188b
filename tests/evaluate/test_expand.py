"""Prompts written out before they are drawn: by rules, by a chat model here, by one behind an address."""

import json
import socket
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny_models import save_rewriter

from daybreak import config as configs
from daybreak.config import ConfigError
from daybreak.data.scenes.expand import expand
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.scoring import SUMMARY, evaluate_scenes
from daybreak.formats.run import load_averaged
from daybreak.sampling.expand import expanded, open_expander
from daybreak.sampling.generate import generate
from daybreak.sampling.rewrite import INSTRUCTION, ChatServer
from daybreak.train import checkpoint
from tests.chat_server import chatting


@pytest.fixture
def chat():
    open_expander.cache_clear()
    with chatting() as server:
        yield server


def test_rules_and_nobody():
    prompts = ["a circle", "a photo of a dog", ""]
    assert expanded(prompts, None, 3, [0, 1, 2]) == prompts
    assert expanded(prompts, "scenes", 3, [0, 1, 2]) == expand(prompts, 3, [0, 1, 2]) != prompts
    assert expanded(prompts, "scenes", 3, [0, 1, 2])[1:] == prompts[1:]


def test_a_chat_model_behind_an_address_writes(chat, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert expanded(["a red dog", "", "x"], chat.url, 0, [0, 1, 2]) == ["a red dog, in detail", "", "x, in detail"]
    listed, first, second = chat.asked  # it is asked for its models once, and never for an empty prompt
    assert listed == ("/v1/models", None, None)
    path, body, key = first
    assert (path, key, body["model"], body["temperature"]) == ("/v1/chat/completions", None, "first", 0)
    assert body["messages"] == [{"role": "user", "content": INSTRUCTION.format(prompt="a red dog")}]
    assert second[1]["messages"][0]["content"].endswith("Prompt: x")


def test_a_name_after_the_address_chooses_the_model_and_a_key_is_sent(chat, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert ChatServer(f"{chat.url}/#second").rewrite("x") == "x, in detail"
    ((_, body, key),) = chat.asked
    assert (body["model"], key) == ("second", "Bearer secret")


def test_a_model_that_says_nothing_leaves_the_prompt(chat):
    chat.answers["/v1/chat/completions"] = (200, {"choices": [{"message": {"content": None}}]})
    assert ChatServer(chat.url).rewrite("a red dog") == "a red dog"


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("models", (401, {"error": {}}), "/models answered 401 Unauthorized"),
        ("models", (200, {"data": []}), "lists no model; name one: http://.*/v1#NAME"),
        ("models", (200, [1]), "lists no model"),
        ("models", (200, b"<html>"), "no chat model answers at /models"),
        ("chat/completions", (500, {}), "/chat/completions answered 500"),
        ("chat/completions", (200, {"choices": []}), "the answer holds no choices"),
        ("chat/completions", (200, {"choices": None}), "the answer holds no choices"),
        ("chat/completions", (200, b"\xff\xfe"), "no chat model answers at /chat/completions"),
    ],
)
def test_what_is_wrong_with_a_server_is_one_line(chat, path, answer, message):
    chat.answers[f"/v1/{path}"] = answer
    with pytest.raises(ConfigError, match=message) as caught:
        expanded(["x"], chat.url, 0, [0])
    assert str(caught.value).startswith(f"--expand {chat.url}") and "\n" not in str(caught.value)


def test_an_address_where_nobody_is_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: the connection is refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ConfigError, match=f"--expand {url}: no chat model answers at /models .*refused"):
            expanded(["x"], url, 0, [0])


def test_a_chat_model_of_a_folder_writes(tmp_path):
    open_expander.cache_clear()
    folder = str(save_rewriter(tmp_path / "llm"))
    (once,) = expanded(["a red dog"], folder, 0, [0])
    assert once and expanded(["a red dog"], folder, 5, [3]) == [once]
    with pytest.raises(ConfigError):
        expanded(["x"], str(tmp_path / "nowhere"), 0, [0])


def test_what_is_drawn_is_the_long_prompt(demo_run):
    config = configs.load(demo_run / "config.yaml")
    networks = load_averaged(demo_run, config, torch.device("cpu"))
    plain = replace(config, sample=replace(config.sample, expand=None))
    prompts = ["a red circle", "two rings"]
    assert config.sample.expand == "scenes"
    drawn = generate(*networks, prompts, config, 3, first=5)
    assert torch.equal(drawn, generate(*networks, expand(prompts, 3, [5, 6]), plain, 3, first=5))
    assert not torch.equal(drawn, generate(*networks, prompts, plain, 3, first=5))
    # Picture i depends on its number, not on its batch.
    assert torch.allclose(drawn[1:], generate(*networks, prompts[1:], config, 3, numbers=[6]), atol=1e-4)


def test_the_score_is_told_with_and_without(demo_run, tmp_path):
    config = configs.load(demo_run / "config.yaml")
    networks = load_averaged(demo_run, config, torch.device("cpu"))
    found = evaluate_scenes(*networks, config, tmp_path).scores
    plain = replace(config, sample=replace(config.sample, expand=None))
    alone = evaluate_scenes(*networks, plain, tmp_path / ".").scores
    assert {f"as_they_stand_{k}" for k in SUMMARY} == {k for k in found if k.startswith("as_they_stand_")}
    assert all(found[f"as_they_stand_{k}"] == alone[k] for k in SUMMARY)
    assert not any(k.startswith("as_they_stand_") for k in alone)
    assert alone.items() <= json.loads((tmp_path / "score.json").read_text()).items()


def test_a_grid_keeps_its_parameters(tmp_path):
    save_grid(torch.zeros(1, 3, 32, 32), ["é ✓"], tmp_path / "a.png", parameters={"prompts": ["é ✓"]})
    save_grid(torch.zeros(1, 3, 32, 32), ["é ✓"], tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.text["parameters"]) == {"prompts": ["é ✓"]}
    with Image.open(tmp_path / "b.png") as image:
        assert "parameters" not in image.text
