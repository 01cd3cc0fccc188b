"""The account of a recipe against the networks themselves."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.model.transformer import Transformer
from daybreak.plan.account import account
from daybreak.plan.networks import cost_of
from daybreak.recipes import recipe
from tests.conftest import tiny_config


def test_the_speedruns_sizes():
    first, second = account(recipe("speedrun"))
    parts = {p.name: p for p in first.parts}
    blocks = parts["blocks"].parameters
    # 16 blocks of qkv 3, text kv 2, out 1, gate, up and down 3 x 3.5 and modulation 6 (with bias), in units of width^2.
    assert blocks == 16 * (int(22.5 * 1792**2) + 6 * 1792 + 3 * 64)
    trained = sum(p.parameters for p in first.parts if p.trained)
    assert trained == pytest.approx(1.19e9, rel=0.005)
    assert parts["alignment teacher"].parameters == pytest.approx(303e6, rel=0.01)
    assert parts["DINO"].parameters == pytest.approx(86.6e6, rel=0.01)
    assert parts["LPIPS"].parameters == 14_714_688
    assert parts["blocks"].training == 3 * parts["blocks"].forward
    assert parts["text encoder"].training == parts["text encoder"].forward
    assert {p.name for p in first.parts} - {p.name for p in second.parts} == {
        "alignment teacher",
        "alignment projector",
    }
    images = 100_000 * 1024 * first.training + 20_000 * 512 * second.training
    assert 2e20 < images < 3e20  # what is publicly known of the run


def test_alignment_that_ends_early_costs_less():
    whole, early = (account(recipe(f"scenes-stack{v}")) for v in ("", "+repa-early"))
    costs = [{p.name: p.training for p in plan.parts} for plan in (*whole, *early)]
    # Its first stage is four fifths of the run, and alignment two fifths; the second has none.
    for part in ("alignment teacher", "alignment projector"):
        assert costs[2][part] == pytest.approx(costs[0][part] / 2, abs=1)
        assert part not in costs[3]


def test_stored_text_features_cost_no_encoder():
    plain = recipe("speedrun2")
    stored = replace(plain, data=replace(plain.data, source="shards", shards=("x",), embeddings="text"))
    (first, _), (with_encoder, _) = account(stored), account(plain)
    encoder = next(p for p in with_encoder.parts if p.name == "text encoder")
    assert first.training == with_encoder.training - encoder.training < 0.6 * with_encoder.training


def test_minit2i_has_its_published_size():
    (plan,) = account(recipe("minit2i"))
    assert sum(p.parameters for p in plan.parts if p.trained) == pytest.approx(258e6, rel=0.01)


def test_an_embedded_run_counts_what_is_trained(tmp_path):
    from daybreak.train.loop import train

    config = tiny_config(train__steps=1, alignment__weight=0.5, alignment__layer=1, alignment__projector_width=32)
    state = train(config, tmp_path / "run", [])
    (plan,) = account(config)
    counted = {p.name: p.parameters for p in plan.parts if p.trained}
    assert counted["alignment projector"] == sum(p.numel() for p in state.objective.projector.parameters())
    assert counted["blocks"] == sum(p.numel() for p in state.transformer.blocks.parameters())


@pytest.mark.parametrize("name", ["scenes-demo", "scenes-demo+detail"])
def test_the_demo_is_counted_whole(name):
    config = recipe(name)
    (plan,) = account(config, 30)
    counted = {p.name: p.parameters for p in plan.parts if p.trained}
    network = Transformer(config.model, config.text.width, config.routing)
    text = sum(p.numel() for p in network.text_convolutions.parameters())
    assert counted["text blocks"] == text > 0
    names = ("blocks", "text blocks", "embeddings and last layer")
    assert sum(counted[n] for n in names) == sum(p.numel() for p in network.parameters())


def test_the_command_shows_each_stage():
    result = CliRunner().invoke(app, ["plan", "scenes-stack", "--text-tokens", "16"], env={"COLUMNS": "140"})
    assert result.exit_code == 0
    for text in (
        "32 px, batch 48, 80.0% of the budget",
        "64 px, batch 16",
        "alignment teacher",
        "captions of 16 tokens",
    ):
        assert text in result.output
    assert torch.get_default_device().type == "cpu"


def test_values_are_what_other_operations_write():
    x, w = torch.empty(8, 4, device="meta"), torch.empty(4, 16, device="meta")
    cost = cost_of(lambda: (x @ w).view(4, 32).softmax(dim=-1).transpose(0, 1) + 1)
    assert cost.flops == 2 * 8 * 4 * 16
    assert cost.values == 2 * 8 * 16  # the softmax and the sum; neither the product nor the views
    (plan,), (deeper,) = account(tiny_config(), 20), account(tiny_config(model__depth=4), 20)
    assert plan.values < deeper.values < 2 * plan.values
