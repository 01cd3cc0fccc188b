"""Frozen text encoders: every family from a tiny model of the real class."""

import logging

import pytest
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5GemmaConfig,
    T5GemmaEncoderModel,
    T5GemmaModuleConfig,
)

from daybreak.config import ConfigError, TextConfig
from daybreak.encoders.text import open_text_encoder
from daybreak.encoders.tokenizer import CaptionTokenizer
from daybreak.formats.run import load_averaged
from daybreak.train import checkpoint
from daybreak.train.loop import train
from tests.conftest import tiny_config

CAPTIONS = ["a red circle", "two small blue squares to the left of a large green ring", "", "a cross on white"]
LAYERS = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "hidden_size": 32,
    "vocab_size": 400,
}
LM = LAYERS | {"num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
FAMILIES = {
    "t5": lambda: T5EncoderModel(T5Config(d_model=32, d_ff=48, d_kv=16, num_layers=2, num_heads=2, vocab_size=400)),
    "t5gemma": lambda: T5GemmaEncoderModel(
        T5GemmaConfig(encoder=T5GemmaModuleConfig(**LM), decoder=T5GemmaModuleConfig(**LM), is_encoder_decoder=False,
                      vocab_size=400)
    ),
    "clip": lambda: CLIPTextModel(CLIPTextConfig(max_position_embeddings=40, eos_token_id=1, pad_token_id=0, **LAYERS)),
    "gemma3": lambda: Gemma3TextModel(Gemma3TextConfig(**LM)),
    "qwen3": lambda: Qwen3Model(Qwen3Config(**LM)),
}  # fmt: skip


def saved(family, folder):
    torch.manual_seed(0)
    FAMILIES[family]().save_pretrained(folder)
    CaptionTokenizer.train(CAPTIONS * 5, TextConfig(vocabulary=300)).save(folder)
    return TextConfig(pretrained=str(folder), max_tokens=40)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_encodes_each_caption_as_alone(family, tmp_path):
    encoder = open_text_encoder(saved(family, tmp_path))
    assert encoder.frozen and not any(p.requires_grad for p in encoder.parameters())
    batch = encoder(CAPTIONS)
    assert batch.embeddings.shape[::2] == (4, encoder.width) and batch.padded
    assert batch.mask[:, 0].all()
    for i, caption in enumerate(CAPTIONS):
        alone = encoder([caption])
        n = int(batch.mask[i].sum())
        assert alone.mask.shape[1] == n and not alone.padded
        assert torch.allclose(batch.embeddings[i, :n], alone.embeddings[0], atol=1e-4)
        assert not batch.embeddings[i, n:].any()
    encoder.train()
    assert not encoder.network.training


def test_embeddings_are_the_networks_own(tmp_path):
    encoder = open_text_encoder(saved("t5", tmp_path))
    network = T5EncoderModel.from_pretrained(tmp_path).eval()
    ids, _ = encoder.tokens([CAPTIONS[1]])
    with torch.no_grad():
        expected = network(input_ids=ids).last_hidden_state
    assert torch.allclose(encoder([CAPTIONS[1]]).embeddings, expected, atol=1e-5)


def test_a_long_caption_warns_once_with_what_was_cut(tmp_path, caplog):
    saved("t5", tmp_path)
    encoder = open_text_encoder(TextConfig(pretrained=str(tmp_path), max_tokens=4))
    with caplog.at_level(logging.WARNING, logger="daybreak"):
        encoder([CAPTIONS[2], CAPTIONS[1]])
        encoder([CAPTIONS[1]])
    (record,) = caplog.records
    assert "longer than 4 tokens" in record.getMessage() and "green ring" in record.getMessage()


def test_training_on_a_frozen_encoder_leaves_it_alone_and_resumes(tmp_path):
    saved("qwen3", tmp_path / "text")
    config = tiny_config(text__pretrained=str(tmp_path / "text"), text__max_tokens=40, train__steps=4)
    before = open_text_encoder(config.text)(CAPTIONS).embeddings
    state = train(config, tmp_path / "run", [])
    assert torch.equal(state.text_encoder(CAPTIONS).embeddings, before)
    assert not (checkpoint.newest(tmp_path / "run") / "text_encoder").exists()
    transformer, text_encoder = load_averaged(tmp_path / "run", config, torch.device("cpu"))
    assert text_encoder.frozen
    for a, b in zip(transformer.parameters(), state.average.parameters(), strict=True):
        assert torch.equal(a, b)
    again = checkpoint.resume(tmp_path / "run", config, torch.device("cpu"))
    assert again.step == 4 and again.average_text is again.text_encoder


def test_a_wrong_name_gets_one_line(tmp_path):
    with pytest.raises(ConfigError, match="text.pretrained .*absent cannot be loaded"):
        open_text_encoder(TextConfig(pretrained=str(tmp_path / "absent")))
    config = saved("clip", tmp_path / "clip")
    with pytest.raises(ConfigError, match="text.max_tokens is 64; .* reads at most 40"):
        open_text_encoder(TextConfig(pretrained=config.pretrained, max_tokens=64))
