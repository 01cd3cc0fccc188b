"""Shared small things: real models, only tiny. Without torch: the process that hands out the tests needs none."""

import gc
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# One thread each, for this process and those that tests start: two tests run at a time, and threads that wait for each
# other are slower than none. Tables are as wide in every terminal. Nothing is looked for on a network.
os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "160", "LINES": "50", "HF_HUB_OFFLINE": "1"}

import pytest

from daybreak.config import Config, override
from daybreak.files import cache_folder
from tests import fork_server

fork_server.install()
logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.WARNING)  # two lines a tensor, which pytest keeps

STARTS_PROCESSES = re.compile(
    r"^ *(?:import|from) .*\b(?:subprocess|multiprocessing|ranks|served|running|browser|kills)\b", re.MULTILINE
)
"""What files import that start processes, servers or browsers."""


FEW_SAMPLES, MANY_SAMPLES = ({"PROMPTS": p, "ATTENDED": a, "EXAMPLES": e} for p, a, e in ((6, 1, 1), (24, 6, 4)))
"""Constants of samples_during_training: as most tests have them, and as users see them."""


def pytest_collection() -> None:
    """Test modules load libraries, a fifth faster while nothing looks for garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Some three hundred small runs draw samples, most of them only because runs do: few will do.

    What is loaded by now stays: looked through for garbage again and again, it took a seventh of all tests' time.
    """
    from daybreak.evaluate import samples_during_training

    vars(samples_during_training).update(FEW_SAMPLES)
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes come first, then those of many tests: a long file that begins last keeps one worker
    busy while the other has nothing left to do."""
    starts = {path: bool(STARTS_PROCESSES.search(path.read_text(encoding="utf-8"))) for path in {i.path for i in items}}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (not starts[item.path], -tests[item.path], str(item.path)))


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
    "train.sample_every": 1.0,
    "optim.warmup_steps": 2,
    "sample.steps": 3,
    "evaluate.prompts_per_task": 1,
    "evaluate.held_out_prompts": 3,
}


DEMO = {
    "data.dense": 0.9,
    "text.depth": 0,
    "text.max_tokens": 96,
    "model.convolutions": "8,12",
    "model.text_convolutions": 1,
    "model.pooled_text": True,
    "model.grounding": True,
    "grounding.weight": 1.0,
    "sample.expand": "scenes",
}
"""The parts of scenes-demo and scenes-box, for `tiny_config`."""


def tiny_demo(**changes: object) -> Config:
    """`tiny_config` with the parts of scenes-demo and scenes-box."""
    return tiny_config(**({k.replace(".", "__"): v for k, v in DEMO.items()} | changes))


def tiny_config(**changes: object) -> Config:
    """A real run of a few steps; changes are named section__field."""
    config = Config(recipe="tiny")
    for key, value in (TINY | {k.replace("__", "."): v for k, v in changes.items()}).items():
        config = override(config, key, value)
    return config


def empty_cache(folder: Path) -> Path:
    """A cache for DAYBREAK_CACHE in which nothing is but the user's kernels, which each process would compile anew."""
    kernels, cache = cache_folder() / "kernels", folder / "cache"
    for place in (kernels, cache):
        place.mkdir(parents=True, exist_ok=True)
    (cache / "kernels").symlink_to(kernels)
    return cache


@contextmanager
def samples_as_users_see_them() -> Iterator[None]:
    """Runs within draw and look into as many samples as any run does."""
    from daybreak.evaluate import samples_during_training

    with pytest.MonkeyPatch.context() as patch:
        for name, count in MANY_SAMPLES.items():
            patch.setattr(samples_during_training, name, count)
        yield


@pytest.fixture
def config() -> Config:
    return tiny_config()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps, whose averaged weights are not the initial ones. Shared: write nothing into it."""
    from daybreak.train.loop import train

    folder = tmp_path_factory.mktemp("finished") / "run"
    train(tiny_config(sample__steps=5, diffusion__shift=2.0, train__steps=20, train__sample_every=1.0), folder, [])
    return folder


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with the parts of scenes-demo. Shared: write nothing into it."""
    from daybreak.train.loop import train

    folder = tmp_path_factory.mktemp("demo") / "run"
    train(tiny_demo(train__steps=20), folder, [])
    return folder


@pytest.fixture(scope="session")
def serving() -> Any:
    """A context manager around a server of one's own: tests/serve/running.py."""
    from tests.serve.running import serving

    return serving


@pytest.fixture(scope="session")
def server(finished_run: Path, serving: Any) -> Any:
    """A running server, shared by the tests that leave it as they found it."""
    with serving(finished_run, "--queue", "24", "--timeout", "15min", "--max-steps", "5000") as running:
        yield running
