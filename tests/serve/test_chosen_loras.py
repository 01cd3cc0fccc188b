"""Adapters that requests ask for by name: merged where they are asked for, the base untouched where not."""

import base64
import io
from pathlib import Path

import numpy as np
import openai
import pytest
import torch
from huggingface_hub import InferenceClient
from PIL import Image
from safetensors.torch import save_file

from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import AdapterFile, adapters_to_choose
from daybreak.finetune.adapters import layer_names
from daybreak.finetune.chosen_loras import ChosenLoras
from daybreak.finetune.loras import parts_of_own, parts_of_pipeline
from daybreak.formats.open import open_model
from daybreak.serve.jobs import Job, Order
from daybreak.serve.open import open_served
from daybreak.serve.server import ImageServer
from daybreak.serve.settings import ServeSettings
from tests.finetune import tiny
from tests.serve.running import drawn_here

CPU = torch.device("cpu")
STRONG = 0.5


def write_adapter(parts: dict[str, torch.nn.Module], file: Path, seed: int, dora: bool = False) -> Path:
    """A LoRA of rank 2 on every linear layer of these networks, in kohya's names."""
    noise = torch.Generator().manual_seed(seed)
    tensors = {}
    for part, network in parts.items():
        for name in layer_names(network):
            weight = network.get_submodule(name).weight
            if weight.ndim != 2:
                continue
            stem = f"lora_{'te_' if part == 'text_encoder' else part + '_'}{name.replace('.', '_')}"
            tensors[f"{stem}.lora_down.weight"] = STRONG * torch.randn(2, weight.shape[1], generator=noise)
            tensors[f"{stem}.lora_up.weight"] = STRONG * torch.randn(weight.shape[0], 2, generator=noise)
            if dora:
                tensors[f"{stem}.dora_scale"] = 1 + torch.rand(weight.shape[0], 1, generator=noise)
    save_file(tensors, file)
    return file


@pytest.fixture(scope="module")
def style(finished_run, tmp_path_factory):
    parts = parts_of_own(*open_model(finished_run, CPU)[:2])
    assert parts.keys() == {"transformer", "text_encoder"}
    return write_adapter(parts, tmp_path_factory.mktemp("style") / "style.safetensors", 1)


@pytest.fixture(scope="module")
def ink(finished_run, tmp_path_factory):
    parts = parts_of_own(*open_model(finished_run, CPU)[:2])
    return write_adapter(parts, tmp_path_factory.mktemp("ink") / "ink.safetensors", 2, dora=True)


def pictures_of(model, *orders: Order) -> np.ndarray:
    """[B, H, W, 3] of orders that are drawn together."""
    rows = model.begin([Job(order, lambda _event: None, float("inf")) for order in orders])
    while any(row.pixels is None for row in rows):
        model.advance(rows)
    return np.stack([row.pixels for row in rows])


def order(prompt: str, seed: int, side: int = 32, **loras: float) -> Order:
    return Order(prompt, "", side, side, 4, 2.0, seed, expand=False, loras=tuple(loras.items()))


def latest_x(model, one: Order) -> torch.Tensor:
    (row,) = model.begin([Job(one, lambda _event: None, float("inf"))])
    while row.pixels is None:
        model.advance([row])
    return row.x


def test_what_is_asked_for_is_what_a_merged_model_draws(finished_run, style, ink):
    model = open_served(
        str(finished_run), ServeSettings(), CPU, {"style": AdapterFile(style), "ink": AdapterFile(ink, 0.5)}
    )
    assert model.info.loras == ("style", "ink") and not model.unfit
    base = open_served(str(finished_run), ServeSettings(), CPU)
    plain = latest_x(base, order("a red circle", 3))
    for chosen, merged in (
        ({"style": 0.8}, (f"{style}:0.8",)),
        ({"style": 0.8, "ink": -0.6}, (f"{style}:0.8", f"{ink}:-0.3")),
        ({"ink": 1.0}, (f"{ink}:0.5",)),
    ):
        expected = latest_x(open_served(str(finished_run), ServeSettings(lora=merged), CPU), order("a red circle", 3))
        found = latest_x(model, order("a red circle", 3, **chosen))
        assert (found - expected).abs().max() <= 1e-5 < (found - plain).abs().max()
        assert torch.equal(latest_x(model, order("a red circle", 3)), plain)  # the base again, to the bit


def test_a_change_in_the_middle_of_a_batch_is_undone(finished_run, style):
    """Orders of one set are drawn together; whatever was drawn between two of its steps leaves no trace."""
    model = open_served(str(finished_run), ServeSettings(), CPU, {"style": AdapterFile(style)})
    a, b = order("a red circle", 1, style=0.8), order("a red circle", 1)
    assert model.shape(a) != model.shape(b)
    assert model.shape(a) == model.shape(order("another", 2, style=0.8))
    alone = pictures_of(model, a)
    rows = model.begin([Job(a, lambda _event: None, float("inf"))])
    model.advance(rows)
    pictures_of(model, b)
    while rows[0].pixels is None:
        model.advance(rows)
    assert (rows[0].pixels == alone[0]).all()


def test_of_a_diffusers_pipeline_too(tmp_path):
    from diffusers import StableDiffusionPipeline

    folder = tiny.save_sd(tmp_path / "sd")
    parts = parts_of_pipeline(StableDiffusionPipeline.from_pretrained(folder))
    file = write_adapter(parts, tmp_path / "style.safetensors", 3)
    model = open_served(str(folder), ServeSettings(), CPU, {"style": AdapterFile(file)})
    merged = open_served(str(folder), ServeSettings(lora=(f"{file}:0.8",)), CPU)
    plain = pictures_of(model, order("a red circle", 1, 16))
    adapted = pictures_of(model, order("a red circle", 1, 16, style=0.8), order("a dog", 2, 16, style=0.8))
    assert (adapted[0] == pictures_of(merged, order("a red circle", 1, 16))[0]).all()
    assert np.abs(adapted[0].astype(int) - plain[0]).max() > 3
    assert (pictures_of(model, order("a red circle", 1, 16)) == plain).all()


def test_a_choice_that_fails_half_way_leaves_nothing_behind(finished_run, style, ink, monkeypatch):
    networks = open_model(finished_run, CPU)[:2]
    before = {k: v.clone() for n in networks for k, v in n.state_dict().items()}
    loras = ChosenLoras(
        parts_of_own(*networks), {"style": AdapterFile(style), "ink": AdapterFile(ink)}, lambda _line: None
    )
    from daybreak.finetune import chosen_loras

    fold, calls = chosen_loras.fold, []

    def out_of_memory(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return fold(*arguments)

    monkeypatch.setattr(chosen_loras, "fold", out_of_memory)
    with pytest.raises(RuntimeError):
        loras.use((("style", 1.0), ("ink", 1.0)))
    loras.use(())
    assert all(torch.equal(v, before[k]) for n in networks for k, v in n.state_dict().items())


def test_names_of_adapters(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({}, file)
    texts = [str(file), f"main={file}", f"ink={file}:0.5"]
    assert adapters_to_choose(texts, ["main"]) == {"ink": AdapterFile(file, 0.5, "ink")}
    with pytest.raises(ConfigError, match="two adapters are named ink"):
        adapters_to_choose([*texts, f"ink={file}"], ["main"])
    with pytest.raises(ConfigError, match="1 to 100 printable"):
        adapters_to_choose([f"={file}"], ["main"])


def test_a_file_for_no_model_is_refused(finished_run, tmp_path):
    save_file({"lora_unet_nothing.lora_down.weight": torch.zeros(1, 1)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    for name, words in (
        ("other", "--lora style=: no model can draw with it: .*is for another base"),
        ("broken", "is damaged"),
    ):
        with pytest.raises(ConfigError, match=words):
            ImageServer([str(finished_run)], ServeSettings(lora=(f"style={tmp_path / name}.safetensors",)))


def test_clients_ask_for_them(finished_run, style, ink, serving, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # it would not even ask this machine

    def pixels(b64: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64)))).astype(int)

    with serving(f"main={finished_run}", "--lora", f"style={style}", "--lora", f"ink={ink}:0.5") as server:
        assert "adapters that requests may ask for: style, ink" in "".join(server.lines)
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        assert client.models.retrieve("main").to_dict()["loras"] == ["style", "ink"]

        def drawn(**extra: object) -> np.ndarray:
            answer = client.images.generate(prompt="a red circle", extra_body={"seed": 5} | extra)
            return pixels(answer.data[0].b64_json)

        plain, adapted = drawn(), drawn(loras={"style": 0.8})
        assert np.abs(plain - drawn_here(finished_run, "a red circle", 5)).max() <= 1
        assert np.abs(adapted - plain).max() > 10
        assert (drawn(loras={}) == plain).all() and (drawn(loras={"style": 0}) == plain).all()
        answer = server.draw("a red circle", seed=5, loras={"ink": 1, "style": 0.8}).json()["data"][0]["b64_json"]
        inside = Image.open(io.BytesIO(base64.b64decode(answer))).text["parameters"]
        assert '"loras": {"style": 0.8, "ink": 1.0}' in inside
        again = server.http.post("/v1/images/generations", content=inside, headers={"content-type": "application/json"})
        assert again.json()["data"][0]["b64_json"] == answer
        with pytest.raises(openai.BadRequestError, match="no adapter is named 'stile'; main has style, ink"):
            drawn(loras={"stile": 1})
        for wrong in ({"style": 11}, {"style": "much"}, {"style": None}, ["style"], {"\ud800": 1.0}):
            refused = server.draw("x", loras=wrong) if wrong != {"\ud800": 1.0} else server.http.post(
                "/v1/images/generations", content=b'{"prompt": "x", "loras": {"\\ud800": 1}}',
                headers={"content-type": "application/json"},
            )  # fmt: skip
            assert refused.status_code == 400 and refused.json()["error"]["param"].startswith("loras")
        file = io.BytesIO()
        Image.new("RGB", (32, 32)).save(file, "PNG")
        whole = {"strength": 1, "seed": 5, "loras": {"style": 0.8}}
        edited = client.images.edit(image=("a.png", file.getvalue()), prompt="a red circle", extra_body=whole)
        assert np.abs(pixels(edited.data[0].b64_json) - adapted).max() <= 1
        hub = InferenceClient(model=f"{server.url}/models/main", token="none")
        other = hub.text_to_image("a red circle", seed=5, extra_body={"loras": {"style": 0.8}})
        assert (np.asarray(other) == adapted).all()
