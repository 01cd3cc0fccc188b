"""Overrides, YAML, and what a wrong setting says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak import config as configs
from daybreak.config import Config, ConfigError, check, documented_fields, field_names, load, override, save
from daybreak.recipes import RECIPES, VARIANTS, recipe
from tests.conftest import tiny_config


@pytest.mark.parametrize(
    "name",
    [*RECIPES, *(f"scenes{d}+{v}" for d in ("", "-demo") for v in VARIANTS), "speedrun+sprint", "scenes+stack+irepa"],
)
def test_recipes_are_valid(name):
    config = recipe(name)
    if config.data.source == "folder":
        config = override(config, "data.folder", "pictures")
    assert check(config).recipe == name


@pytest.mark.parametrize(
    "variant",
    ["short-captions", "convolutions", "detail", "no-repa", "no-text-convolutions", "no-pooled-text", "no-grounding"],
)
def test_variants_change_one_part_of_the_demo(variant):
    whole, less = recipe("scenes-demo"), recipe(f"scenes-demo+{variant}")
    settings = [n for n in field_names() if n != "recipe"]
    value = lambda c, n: getattr(getattr(c, n.split(".")[0]), n.split(".")[1])  # noqa: E731
    changed = {n for n in settings if value(whole, n) != value(less, n)}
    assert (
        changed
        == {
            "short-captions": {"data.dense", "sample.expand"},
            "convolutions": {"model.convolutions", "model.start"},
            "detail": {"model.detail"},
            "no-repa": {"alignment.weight"},
            "no-text-convolutions": {"model.text_convolutions"},
            "no-pooled-text": {"model.pooled_text"},
            "no-grounding": {"model.grounding", "grounding.weight"},
        }[variant]
    )
    again = recipe("scenes-demo+short-captions+dense")
    assert (again.data, again.sample, again.text) == (whole.data, whole.sample, whole.text)


@pytest.mark.parametrize(
    ("name", "message"),
    [("scene", "did you mean scenes?"), ("scenes+tred", "unknown variant 'tred'.*did you mean tread?")],
)
def test_an_unknown_recipe_or_variant_names_the_nearest(name, message):
    with pytest.raises(ConfigError, match=message.replace("?", "[?]")):
        recipe(name)


def test_the_folder_recipe_asks_for_data():
    with pytest.raises(ConfigError, match="--data FOLDER"):
        check(recipe("folder"))
    assert check(override(recipe("folder"), "data.folder", "pictures"))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.batch", "96", 96),
        ("train.minutes", "2.5", 2.5),
        ("train.steps", "none", None),
        ("model.bottleneck", "64", 64),
        ("data.flip", "true", True),
        ("data.background", "0,128,255", (0, 128, 255)),
        ("optim.adam_betas", "0.8,0.99", (0.8, 0.99)),
        ("sample.sampler", "heun", "heun"),
        ("data.folder", "some where", "some where"),
        ("model.convolutions", "24, 48", (24, 48)),
        ("model.convolutions", "none", ()),
        ("sample.expand", "none", None),
        ("sample.expand", "scenes", "scenes"),
        ("optim.adam_eps", "1e-10", 1e-10),
        ("train.trackers", "wandb, mlflow", ("wandb", "mlflow")),
    ],
)
def test_overrides_take_the_field_s_type(key, text, value):
    config = override(Config(), key, text)
    section, name = key.split(".")
    assert getattr(getattr(config, section), name) == value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.bach", "3", "did you mean train.batch"),
        ("trian.batch", "3", "did you mean train.batch"),
        ("zzz", "3", "the sections are"),
        ("train.batch", "many", "train.batch is 'many'; it must be a whole number"),
        ("train.batch", "3.5", "whole number"),
        ("train.minutes", "nan", "must be a number"),
        ("data.flip", "perhaps", "true or false"),
        ("sample.sampler", "huen", "did you mean heun"),
        ("data.background", "1,2", "needs 3 values"),
        ("data.background", "1,2,x", "whole number"),
    ],
)
def test_a_wrong_override_says_what_would_be_right(key, value, message):
    with pytest.raises(ConfigError, match=message):
        override(Config(), key, value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.patch", "5", "data.resolution 32 does not divide .* 30 would"),
        ("model.heads", "3", "multiple of 4"),
        ("train.batch", "0", "at least 1"),
        ("diffusion.p_uncond", "1.5", "between 0 and 1"),
        ("optim.muon_lr", "-1", "above 0"),
        ("train.steps", "-4", "train.steps is -4"),
        ("data.task_weights", "1,2", "six shares"),
        ("text.heads", "3", "text.width"),
        ("data.background", "0,0,300", "data.background is 300; it must be between 0 and 255"),
        ("data.cache_gb", "0", "data.cache_gb is 0; it must be above 0"),
        ("model.bottleneck", "0", "model.bottleneck is 0; it must be at least 1"),
        ("model.text_blocks", "-1", "model.text_blocks is -1; it must be at least 0"),
        ("model.rope_theta", "-5", "model.rope_theta is -5; it must be above 0"),
        ("model.mlp_ratio", "0.001", "leaves no hidden width"),
        ("alignment.until", "-1", "alignment.until is -1; it must be between 0 and 1"),
        ("alignment.projector_width", "0", "alignment.projector_width is 0; it must be at least 1"),
        ("perceptual.dino_resolution", "0", "perceptual.dino_resolution is 0; it must be at least 1"),
        ("optim.muon_momentum", "1", "optim.muon_momentum is 1; it must be at least 0 and below 1"),
        ("optim.adam_betas", "0.9,2", "optim.adam_betas is 2; it must be at least 0 and below 1"),
        ("optim.weight_decay", "-1", "optim.weight_decay is -1; it must be at least 0"),
        ("sample.guidance", "-1", "sample.guidance is -1; it must be at least 0"),
        ("evaluate.seed", "-1", "evaluate.seed is -1; it must be at least 0"),
        ("text.depth", "-1", "text.depth is -1; it must be at least 0"),
        ("model.text_convolutions", "-1", "model.text_convolutions is -1; it must be at least 0"),
        ("model.convolutions", "8,0", "model.convolutions is 0; it must be at least 1"),
        ("data.dense", "1.2", "data.dense is 1.2; it must be between 0 and 1"),
        ("grounding.weight", "-1", "grounding.weight is -1; it must be at least 0"),
    ],
)
def test_values_out_of_range_are_refused_with_their_name(key, value, message):
    with pytest.raises(ConfigError, match=message):
        check(override(tiny_config(), key, value))


def test_settings_that_cannot_act_together_are_refused():
    with pytest.raises(ConfigError, match="sample.guidance_from is 0.8, above sample.guidance_to 0.2"):
        check(tiny_config(sample__guidance_from=0.8, sample__guidance_to=0.2))
    assert check(tiny_config(diffusion__contrastive=0.1, train__microbatch=2))
    with pytest.raises(ConfigError, match="diffusion.contrastive compares pictures of a step"):
        check(tiny_config(diffusion__contrastive=0.1, train__microbatch=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__convolutions": "8"}, "halve the side 1 times, so model.patch must be 2, not 4"),
        ({"model__convolutions": "8,8", "model__bottleneck": 8}, "model.convolutions take the place of patches"),
        ({"model__convolutions": "8,8", "model__start": "identity"}, "model.bottleneck=none, model.start=grey"),
        ({"model__convolutions": "8,8", "model__modulation": "none"}, "model.modulation=block or shared"),
        ({"model__convolutions": "8,8", "model__detail": 8}, "set model.detail=0, or model.convolutions=none"),
        ({"model__pooled_text": True, "model__modulation": "none"}, "model.pooled_text goes through the time's"),
        (
            {"model__grounding": True, "model__layout": "joint", "model__modulation": "none"},
            "model.grounding guides how pictures attend to text: set model.layout=text_kv",
        ),
        ({"grounding__weight": 1.0}, "set model.grounding=true, or weight 0"),
        (
            {"grounding__weight": 1.0, "model__grounding": True, "data__source": "folder", "data__folder": "x"},
            "grounding.weight needs pictures whose objects are known",
        ),
        ({"data__dense": 0.5, "data__source": "folder", "data__folder": "x"}, "data.dense needs pictures"),
        ({"sample__expand": "scenes", "data__source": "folder", "data__folder": "x"}, "sample.expand=scenes needs"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check(tiny_config(**changes))
    assert "\n" not in str(caught.value)


def test_a_chat_model_may_expand_prompts_of_any_pictures():
    assert check(tiny_config(sample__expand="http://localhost:1/v1", data__source="folder", data__folder="x"))


def test_other_pictures_leave_out_what_only_scenes_know(tmp_path):
    from daybreak.data.listing import with_data

    config = check(with_data(recipe("scenes-demo"), [str(tmp_path)]))
    assert (config.data.source, config.data.dense, config.grounding.weight) == ("folder", 0.0, 0.0)
    assert config.sample.expand is None and config.model == recipe("scenes-demo").model
    own = with_data(override(recipe("scenes-demo"), "sample.expand", "http://localhost:1"), [str(tmp_path)])
    assert own.sample.expand == "http://localhost:1"


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ConfigError, match="the run has no end"):
        check(override(tiny_config(), "train.steps", "none"))


def test_yaml_round_trip(tmp_path):
    config = tiny_config(data__background="1,2,3", evaluate__grid_prompts="a cat,a dog", data__folder="ünï/cödé")
    save(config, tmp_path / "c.yaml")
    assert load(tmp_path / "c.yaml") == config


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(1, 10**6), st.text(max_size=20))
def test_any_value_survives_yaml(tmp_path_factory, number, whole, text):
    path = tmp_path_factory.mktemp("c") / "c.yaml"
    config = override(override(override(Config(), "optim.muon_lr", number), "train.batch", whole), "data.folder", text)
    save(config, path)
    read = load(path)
    assert (read.optim.muon_lr, read.train.batch, read.data.folder) == (number, whole, config.data.folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [1, 2", "not readable as YAML"),
        ("- a\n- b", "should hold sections"),
        ("train: 3", "'train' should be a section"),
        ("train:\n  bach: 3", "did you mean train.batch"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no such config file: .*c\.yaml"):
        load(tmp_path / "c.yaml")


def test_every_setting_is_listed():
    listed = [f"{s}.{n}" for s, fields in documented_fields(Config()) for n, _, _ in fields]
    assert listed == [n for n in field_names() if n != "recipe"]
    meanings = {f"{s}.{n}": m for s, fields in documented_fields(Config()) for n, _, m in fields}
    assert "shorter" in meanings["text.max_tokens"] or "cut" in meanings["text.max_tokens"]
    assert configs.Config.__doc__
