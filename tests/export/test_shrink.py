"""8-bit weights: a quarter of the size, the same pictures but for a little."""

import json

import pytest
import torch
from rich.console import Console

from daybreak import config as configs
from daybreak.commands.export import run_import
from daybreak.config import ConfigError
from daybreak.export.shrink import run_shrink
from daybreak.formats.open import open_model
from daybreak.formats.run import load_averaged
from daybreak.model_folder import kind_of
from daybreak.sampling.generate import generate

CPU = torch.device("cpu")


def test_int8_reports_what_it_changed_and_is_served(finished_run, tmp_path, capsys):
    pytest.importorskip("torchao", reason="pip install 'daybreak[quant]'")
    run_shrink(Console(width=200), finished_run, "int8", tmp_path / "small")
    shown = capsys.readouterr().out
    for words in ("weights on disk", "weights in memory", "x the speed", "points", "of 255 on average"):
        assert words in shown
    report = json.loads((tmp_path / "small" / "shrink.json").read_text())
    config = configs.load(finished_run / "config.yaml")
    assert kind_of(tmp_path / "small") == "quantized"
    small = open_model(tmp_path / "small", CPU)
    assert small[0].blocks[0].mlp.down.weight.qdata.dtype == torch.int8
    full = load_averaged(finished_run, config, CPU)
    prompts = ["a red circle", "two blue squares"]
    a, b = generate(*full, prompts, config, 3), generate(*small[:2], prompts, config, 3)
    assert 0 < (a - b).abs().mean() < 0.02
    assert report["mean_picture_difference"] < 0.01
    assert abs(report["score"]["full"] - report["score"]["int8"]) <= 1
    with pytest.raises(ConfigError, match="cannot be trained"):
        run_import(Console(), tmp_path / "small", tmp_path / "run", None)
    weights = tmp_path / "small" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ConfigError, match="damaged or missing"):
        open_model(tmp_path / "small", CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may have float8")
def test_fp8_is_refused_with_the_reason(finished_run, tmp_path):
    with pytest.raises(ConfigError, match="needs a GPU with float8 arithmetic"):
        run_shrink(Console(), finished_run, "fp8", tmp_path / "small")
    assert not (tmp_path / "small").exists()
