"""No test here meets a network that its user has in a cache; pictures are drawn in less time."""

import shutil

import pytest

from daybreak.config import load, override, save
from daybreak.hub_models import HUB_MODELS
from tests.conftest import empty_cache


@pytest.fixture(autouse=True)
def no_networks(tmp_path, monkeypatch):
    monkeypatch.setenv("DAYBREAK_CACHE", str(empty_cache(tmp_path)))
    monkeypatch.setitem(HUB_MODELS, "clip", ("nobody/no-such-clip", "1.7 GB", "CLIP of CLIPScore"))


@pytest.fixture(scope="session")
def demo_run(demo_run, tmp_path_factory):
    """It draws in one step, and is scored by few prompts."""
    run = shutil.copytree(demo_run, tmp_path_factory.mktemp("demo") / "run")
    config = load(run / "config.yaml")
    for name, value in {"sample.steps": 1, "evaluate.held_out_prompts": 1}.items():
        config = override(config, name, value)
    save(config, run / "config.yaml")
    return run
