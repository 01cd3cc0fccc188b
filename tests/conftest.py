"""Shared small things: real models, only tiny."""

import pytest
import torch

from daybreak.config import Config, override

torch.set_num_threads(2)

TINY = {
    "data.resolution": 32,
    "model.patch": 4,
    "text.width": 32,
    "text.heads": 2,
    "text.depth": 1,
    "model.width": 32,
    "model.depth": 2,
    "model.heads": 2,
    "train.batch": 8,
    "train.steps": 6,
    "optim.warmup_steps": 2,
    "sample.steps": 3,
    "evaluate.prompts_per_task": 1,
    "evaluate.held_out_prompts": 3,
}


def tiny_config(**changes: object) -> Config:
    """A real run of a few steps; changes are named section__field."""
    config = Config(recipe="tiny")
    for key, value in (TINY | {k.replace("__", "."): v for k, v in changes.items()}).items():
        config = override(config, key, value)
    return config


@pytest.fixture
def config() -> Config:
    return tiny_config()
