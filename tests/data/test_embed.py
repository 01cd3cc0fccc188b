"""Text features beside the shards: those of the encoder, and the same run with them as without."""

import json
import re
import shutil

import pytest
import torch
from making import captioned_folder, prepared
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.data.shards.embedding_files import embedding_file
from daybreak.data.shards.embeddings import EmbeddingReader
from daybreak.data.shards.reader import ShardReader
from daybreak.data.shards.source import ShardSource
from daybreak.encoders.text import open_text_encoder
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.encoders.test_pretrained_text import saved


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed")
    text = saved("qwen3", folder / "text")
    prepared(captioned_folder(folder / "pictures", 40), folder / "shards", size=64, shard_mb=0.02)
    for dtype in ("bfloat16", "fp8"):
        words = ["embed", str(folder / "shards"), "--model", text.pretrained, "--max-tokens", "40", "--name", dtype,
                 "--dtype", dtype, "--batch", "5"]  # fmt: skip
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output + str(done.exception)
    return folder


def settings(place, **changes):
    own = {
        "data__source": "shards", "data__shards": str(place / "shards"), "data__resolution": 32, "train__batch": 4,
        "text__pretrained": str(place / "text"), "text__max_tokens": 40, "train__sample_every": 1.0,
    }  # fmt: skip
    return tiny_config(**own | changes)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 1 / 128), ("fp8", 1 / 8)])
def test_features_are_the_encoders(place, dtype, tolerance):
    config = settings(place)
    shards = ShardReader(str(place / "shards"))
    reader, encoder = EmbeddingReader(shards, dtype, config.text), open_text_encoder(config.text)
    assert len(shards.index.shards) > 1
    for row in range(len(shards)):
        (column, caption), *_ = shards.captions(row).items()
        expected = encoder([caption]).embeddings[0]
        got = reader.tokens(row, column)
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= tolerance * expected.abs().max()
    size = {
        d: sum(p.stat().st_size for p in (place / "shards" / "embeddings" / d).iterdir()) for d in ("bfloat16", "fp8")
    }
    assert size["fp8"] < size["bfloat16"]


@pytest.fixture(scope="module")
def several(place, tmp_path_factory):
    """Shards of rows with one to four captions in a list, and one row in five without, embedded."""
    folder = tmp_path_factory.mktemp("several")
    pictures = captioned_folder(folder / "pictures", 20)
    rows = [
        {"file_name": f"{i:04d}.jpg", "text": [f"picture {i}{' and more' * k} again" for k in range(i % 5)]}
        for i in range(20)
    ]
    (pictures / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepared(pictures, folder / "shards", size=64, shard_mb=0.02, uncaptioned=True)
    words = ["embed", str(folder / "shards"), "--model", str(place / "text"), "--max-tokens", "40", "--name", "all"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output + str(done.exception)
    return folder / "shards"


def test_every_caption_of_a_list_has_its_features(place, several):
    text = settings(place).text
    encoder = open_text_encoder(text)
    source = ShardSource([str(several)], 32, 4, 4, 0, embeddings="all", text=text)
    drawn = set()
    for position in range(0, 160, 4):
        batch = source.batch(position, 4)
        drawn |= set(batch.captions)
        for caption, features in zip(batch.captions, batch.text, strict=True):
            expected = encoder([caption]).embeddings[0]
            assert features.shape == expected.shape
            assert (features - expected).abs().max() <= expected.abs().max() / 128
    assert len(drawn) > 36  # of 40
    plain = ShardSource([str(several)], 32, 4, 4, 0)
    assert [plain.batch(p, 4).captions for p in range(0, 40, 4)] == [
        source.batch(p, 4).captions for p in range(0, 40, 4)
    ]


def test_files_of_older_versions_give_the_first_caption(place, several, tmp_path):
    shards = ShardReader(str(shutil.copytree(several, tmp_path / "shards")))
    for shard in range(len(shards.index.shards)):
        path = tmp_path / "shards" / embedding_file("all", shard, "caption")
        new = load_file(path)
        starts = [0, *new["ends"].tolist()]
        of_rows = zip([0, *new["rows"].tolist()], new["rows"].tolist(), strict=False)
        firsts = [new["tokens"][starts[a] : starts[a + 1]] if b > a else new["tokens"][:1] for a, b in of_rows]
        ends = torch.tensor([len(t) for t in firsts]).cumsum(0)
        save_file({"tokens": torch.cat(firsts), "ends": ends}, path)
    source = ShardSource([str(tmp_path / "shards")], 32, 4, 4, 0, embeddings="all", text=settings(place).text)
    encoder = open_text_encoder(settings(place).text)
    for position in range(0, 80, 4):
        batch = source.batch(position, 4)
        for caption, features in zip(batch.captions, batch.text, strict=True):
            assert re.fullmatch(r"picture \d+ again", caption)
            assert features.shape == encoder([caption]).embeddings[0].shape


def test_training_with_them_is_training_without(place, tmp_path):
    losses = []
    for name, changes in (("online", {}), ("stored", {"data__embeddings": "fp8"})):
        train(settings(place, train__steps=25, optim__adam_lr=0.01, **changes), tmp_path / name, [])
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        losses.append([e["loss"] for e in map(json.loads, lines) if e["event"] == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=5e-2)
    assert losses[0] != losses[1]  # 8 bits show, so they are read


def test_prepare_embeds_too(place, tmp_path):
    words = ["prepare", str(place / "pictures"), "--out", str(tmp_path / "shards"), "--size", "64", "--patch", "8"]
    done = CliRunner().invoke(app, [*words, "--workers", "0", "--embed", str(place / "text")])
    assert done.exit_code == 0, done.output + str(done.exception)
    assert list((tmp_path / "shards" / "embeddings" / "text").glob("*.safetensors"))
    assert "--data.embeddings text" in done.output
    done = CliRunner().invoke(app, [*words[:3], str(tmp_path / "none"), "--embed", str(tmp_path)])
    assert isinstance(done.exception, ConfigError) and f"--embed {tmp_path}" in str(done.exception)
    assert not (tmp_path / "none").exists()  # it is said before the work, and not after it


def test_a_killed_embed_does_no_shard_twice(place, tmp_path):
    shards = tmp_path / "shards"
    shutil.copytree(place / "shards", shards)
    files = sorted((shards / "embeddings" / "bfloat16").glob("*.safetensors"))
    before = {f.name: (f.stat().st_mtime_ns, load_file(f)) for f in files}
    files[-1].unlink()
    with pytest.raises(ConfigError, match="the same daybreak embed goes on"):
        EmbeddingReader(ShardReader(str(shards)), "bfloat16", settings(place).text)
    words = ["embed", str(shards), "--model", str(place / "text"), "--max-tokens", "40", "--name", "bfloat16"]
    assert CliRunner().invoke(app, words).exit_code == 0
    for f in files:
        time, tensors = before[f.name]
        assert (f.stat().st_mtime_ns == time) == (f != files[-1])
        assert all(torch.equal(v, tensors[k]) for k, v in load_file(f).items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text__max_tokens": 39}, "max_tokens 40, the run has text.max_tokens 39"),
        ({"text__revision": "v2"}, "revision None, the run has text.revision v2"),
        ({"text__pretrained": "other/encoder"}, "the run has text.pretrained other/encoder"),
        ({"data__embeddings": "none_such"}, "how.json is missing"),
    ],
)
def test_features_of_another_encoder_are_refused(place, tmp_path, changes, message):
    config = settings(place, **{"data__embeddings": "bfloat16", **changes})
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run", [])


def test_features_without_their_encoder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"it needs data.source=shards .* and text.pretrained"):
        train(tiny_config(data__embeddings="text"), tmp_path / "run", [])
