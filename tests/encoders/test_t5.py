"""The T5 encoder against transformers' own: the same states and gradients, and files that each reads of the other."""

import pytest
import torch
from transformers import AutoTokenizer, T5Config, T5EncoderModel

from daybreak.config import ConfigError, TextConfig
from daybreak.encoders.t5 import T5Encoder, T5Shape
from daybreak.encoders.text import TextEncoder
from daybreak.encoders.tokenizer import CaptionTokenizer

SHAPE = T5Shape(vocab_size=90, d_model=32, d_kv=16, d_ff=48, num_layers=3, num_heads=2,
                relative_attention_max_distance=64)  # fmt: skip
CAPTIONS = ["a red circle", "", "two small blue squares above one large green ring " * 4, "naïve 画像 🙂"]


def ids_and_mask():
    ids = torch.randint(3, 90, (3, 70), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(70)[None] < torch.tensor([[70], [9], [1]])
    return torch.where(mask, ids, 0), mask


@pytest.mark.parametrize("form", ["gated-silu", "gated-gelu", "relu"])
@pytest.mark.parametrize("depth", [3, 0])
def test_states_and_gradients_are_those_of_transformers(tmp_path, form, depth):
    torch.manual_seed(1)
    theirs = T5EncoderModel(T5Config(
        vocab_size=90, d_model=32, d_kv=16, d_ff=48, num_layers=depth, num_heads=2, feed_forward_proj=form,
        relative_attention_max_distance=64, dropout_rate=0.0,
    ))  # fmt: skip
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    ours = T5Encoder.load(tmp_path)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ids, mask = ids_and_mask()
    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    found = ours(ids, mask)
    assert torch.allclose(found[mask], expected[mask], atol=1e-5)
    weight = torch.randn(int(mask.sum()), 32)
    (found[mask] * weight).sum().backward()
    (expected[mask] * weight).sum().backward()
    for name, parameter in theirs.named_parameters():
        gradient = dict(ours.named_parameters())[name].grad
        scale = parameter.grad.abs().max().clamp(min=1)
        assert torch.allclose(gradient / scale, parameter.grad / scale, atol=1e-5), name


def test_transformers_reads_what_we_write(tmp_path):
    encoder = TextEncoder.create(CAPTIONS * 3, TextConfig(vocabulary=300, width=32, heads=2, depth=2, max_tokens=24))
    encoder.save(tmp_path)
    network = T5EncoderModel.from_pretrained(tmp_path / "text_encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    encoded = tokenizer(CAPTIONS, padding=True, truncation=True, return_tensors="pt", return_offsets_mapping=True)
    text = encoder(CAPTIONS, offsets=True)
    assert torch.equal(encoded["attention_mask"].bool(), text.mask)
    assert torch.equal(encoded["input_ids"], encoder.tokens(CAPTIONS)[0])
    assert [[tuple(p) for p in row] for row in encoded["offset_mapping"].tolist()] == text.offsets
    theirs = network(encoded["input_ids"], attention_mask=encoded["attention_mask"]).last_hidden_state
    assert torch.allclose(text.embeddings[text.mask], theirs[text.mask], atol=1e-5)
    again = TextEncoder.load(tmp_path)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in encoder.state_dict().items())
    assert again.network.encoder.embed_tokens is again.network.shared


def test_initial_values_spread_as_those_of_transformers():
    shape = T5Shape(vocab_size=500, d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=4)
    ours = T5Encoder(shape).state_dict()
    theirs = T5EncoderModel(T5Config(vocab_size=500, d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=4,
                                     feed_forward_proj="gated-silu")).state_dict()  # fmt: skip
    for name, tensor in theirs.items():
        assert ours[name].std().item() == pytest.approx(tensor.std().item(), rel=0.25, abs=1e-6), name


def test_what_does_not_fit_is_named(tmp_path):
    T5Encoder(SHAPE).save(tmp_path)
    config = tmp_path / "config.json"
    good = config.read_text()
    config.write_text(good.replace('"num_layers": 3', '"num_layers": 4'))
    with pytest.raises(ConfigError, match=r"model.safetensors does not fit its config.json: encoder.block.3"):
        T5Encoder.load(tmp_path)
    config.write_text(good.replace("gated-silu", "tanh"))
    with pytest.raises(ConfigError, match="feed_forward_proj is tanh"):
        T5Encoder.load(tmp_path)


def test_a_tokenizer_that_transformers_wrote_is_read(tmp_path):
    CaptionTokenizer.train(CAPTIONS, TextConfig(vocabulary=300, max_tokens=24)).save(tmp_path / "ours")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    ours, theirs = (CaptionTokenizer.load(tmp_path / n) for n in ("ours", "theirs"))
    assert [e.ids for e in ours.encode(CAPTIONS, 24)] == [e.ids for e in theirs.encode(CAPTIONS, 24)]
    assert (theirs.longest, theirs.pad_id, len(theirs)) == (24, ours.pad_id, len(ours))
