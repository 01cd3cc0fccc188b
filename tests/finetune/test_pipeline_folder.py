"""Pipelines are written in the form that transformers 4 and 5 both read, and say nothing of this machine."""

import json
import shutil

import pytest
import tiny
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from rich.console import Console
from safetensors.torch import load_file, save_file
from tiny import drawn, finetune
from transformers import CLIPConfig, CLIPTokenizer

from daybreak.commands.export import run_export
from daybreak.export.licences import Licences
from daybreak.finetune.result import open_result
from daybreak.formats.pipeline_folder import save_pipeline

MERGES = "#version: 0.2\nr e\nre d</w>\n"
ONLY_IN_5 = ("TokenizersBackend", "T5Tokenizer", "Pil")
"""Ends of the names of classes that transformers 4 does not have, or reads from other files."""


@pytest.fixture(scope="module")
def older(base, tmp_path_factory):
    """The base as transformers 4 saved it: vocab.json and merges.txt alone, CLIP's weights below text_model."""
    folder = tmp_path_factory.mktemp("older") / "sd"
    shutil.copytree(base, folder)
    words = [*tiny.clip_tokenizer().get_vocab(), "re"]
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "tokenizer" / "merges.txt").write_text(MERGES)
    (folder / "tokenizer" / "special_tokens_map.json").write_text('{"bos_token": "<|startoftext|>"}')
    weights = folder / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{k}": v for k, v in load_file(weights).items()}
    embedding = "text_model.embeddings.token_embedding.weight"
    tensors[embedding] = tensors[embedding].repeat(2, 1)[: len(words)].contiguous()
    save_file(tensors, weights, metadata={"format": "pt"})
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": len(words)}))
    return folder


def check_older_form(folder):
    index = json.loads((folder / "model_index.json").read_text())
    classes = [entry[1] for entry in index.values() if isinstance(entry, list) and entry[1]]
    assert not [c for c in classes if c.endswith(ONLY_IN_5)], classes
    for name, entry in index.items():
        if isinstance(entry, list) and entry[1] == "CLIPTokenizer":
            assert {"vocab.json", "merges.txt", "tokenizer.json"} <= {p.name for p in (folder / name).iterdir()}
        if isinstance(entry, list) and entry[1] in ("CLIPTextModel", "CLIPTextModelWithProjection"):
            keys = load_file(folder / name / "model.safetensors").keys()
            assert all(k.startswith(("text_model.", "text_projection.")) for k in keys)
    for path in folder.rglob("*.json"):
        assert "/tmp" not in path.read_text() and "_name_or_path" not in path.read_text(), path


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_bases_own_files_are_kept_through_finetune_and_export(method, older, pictures, tmp_path):
    own = {p.name: p.read_bytes() for p in (older / "tokenizer").iterdir() if p.name != "tokenizer_config.json"}
    run = finetune(older, pictures, tmp_path / "run", method=method, lr=1e-3, steps=1)
    run_export(Console(quiet=True), run.folder, "diffusers", tmp_path / "exported", "float32", Licences())
    for folder in [tmp_path / "exported"] + ([run.folder / "model"] if method == "full" else []):
        assert {name: (folder / "tokenizer" / name).read_bytes() for name in own} == own
        check_older_form(folder)
        ours, theirs = drawn(open_result(run.folder)), drawn(DiffusionPipeline.from_pretrained(folder))
        assert torch.allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize("save", [tiny.save_sd, tiny.save_sdxl, tiny.save_sd3, tiny.save_flux])
def test_what_transformers_5_saved_becomes_readable_for_4_too(save, tmp_path):
    plain = DiffusionPipeline.from_pretrained(save(tmp_path / "base"))
    save_pipeline(plain, tmp_path / "written")
    check_older_form(tmp_path / "written")
    again = DiffusionPipeline.from_pretrained(tmp_path / "written")
    assert drawn(again).equal(drawn(plain))
    folder = tmp_path / "written" / "tokenizer"
    alone = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    text = "a red-ish circle, on white 12"
    assert alone(text).input_ids == plain.tokenizer(text).input_ids


def test_a_new_word_is_in_the_older_files_too(base, pictures, tmp_path):
    run = finetune(base, pictures, tmp_path / "run", method="textual-inversion", token="<x>", vectors=2, steps=1)
    run_export(Console(quiet=True), run.folder, "diffusers", tmp_path / "exported", "float32", Licences())
    count = len(tiny.clip_tokenizer())
    added = json.loads((tmp_path / "exported" / "tokenizer" / "added_tokens.json").read_text())
    assert added == {"<x>": count, "<x>_1": count + 1}
    again = DiffusionPipeline.from_pretrained(tmp_path / "exported")
    assert drawn(again, "a <x> dog").equal(drawn(open_result(run.folder), "a <x> dog"))


def test_a_safety_checker_goes_along(base, tmp_path):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    parts = DiffusionPipeline.from_pretrained(base).components
    vision = {**tiny.CLIP, "image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=tiny.CLIP, vision_config=vision, projection_dim=16))
    side = {"height": 32, "width": 32}
    parts |= {"safety_checker": checker, "feature_extractor": CLIPImageProcessorPil(size=side, crop_size=side)}
    plain = StableDiffusionPipeline(**parts)
    save_pipeline(plain, tmp_path / "written")
    check_older_form(tmp_path / "written")
    assert type(DiffusionPipeline.from_pretrained(tmp_path / "written").feature_extractor) is CLIPImageProcessorPil
