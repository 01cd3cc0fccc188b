"""One file out of several modules: it works alone, computes the same, and holds the modules' own words."""

import ast
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.formats.bundle import _read, bundle
from daybreak.model.transformer import Transformer
from daybreak.model_folder import TRANSFORMER
from tests.formats.test_prx_keys import TEXT_WIDTH, inputs, randomize

MODELS = {
    "scenes-demo": (
        ModelConfig(32, 2, 2, convolutions=(8, 12), text_convolutions=2, pooled_text=True, grounding=True),
        RoutingConfig(),
    ),
    "MiniT2I": (ModelConfig(32, 2, 2, layout="joint", modulation="none", text_blocks=1), RoutingConfig()),
    "MM-DiT": (ModelConfig(32, 2, 2, layout="joint", pooled_text=True), RoutingConfig()),
    "velocity": (ModelConfig(32, 2, 2, predicts="velocity", modulation="shared"), RoutingConfig()),
    "detail": (ModelConfig(32, 2, 2, detail=8), RoutingConfig()),
    "sprint": (
        ModelConfig(32, 3, 2, bottleneck=12, size_conditioning=True),
        RoutingConfig(method="sprint", start=1, end=2),
    ),
}


@pytest.fixture(scope="module")
def alone() -> ModuleType:
    """The transformer's file, executed."""
    text = bundle("daybreak.formats.own_transformer", TRANSFORMER, "The transformer.")
    module = ModuleType("the_transformer_alone")
    sys.modules[module.__name__] = module  # where dataclasses look for it
    exec(compile(text, "the_transformer_alone.py", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", MODELS)
def test_it_computes_what_the_package_computes(name, alone):
    config, routing = MODELS[name]
    ours = Transformer(config, TEXT_WIDTH, routing).eval()
    randomize(ours)
    theirs = getattr(alone, TRANSFORMER)(TEXT_WIDTH, asdict(config), asdict(routing)).eval()
    theirs.network.load_state_dict(ours.state_dict())
    assert type(theirs.network) is not Transformer
    x, t, text = inputs()
    with torch.no_grad():
        assert torch.equal(ours(x, t, text).x0, theirs(x, t, text).x0)
        half = theirs.bfloat16()(x, t, TextTokens(text.embeddings.bfloat16(), text.mask)).x0
    assert half.isfinite().all()


@pytest.mark.parametrize(
    "module,name", [("own_transformer", "DaybreakTransformer"), ("own_pipeline", "DaybreakPipeline")]
)
def test_it_imports_nothing_of_ours_and_says_what_it_needs(module, name):
    text = bundle(f"daybreak.formats.{module}", name, "Something.")
    imported = {n.module for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)}
    assert not [m for m in imported if m and m.startswith("daybreak")]
    assert "It needs diffusers, torch" in text
    source = Path(f"daybreak/formats/{module}.py").read_text()
    assert source[source.index(f"class {name}") :].strip() in text
    assert "class TextEncoder" not in text and "class TrainConfig" not in text  # nothing asks for them


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `daybreak_made_up` of modules given as text."""

    def make(**modules: str) -> None:
        folder = tmp_path / "daybreak_made_up"
        folder.mkdir()
        for name, text in ({"__init__": ""} | modules).items():
            (folder / f"{name}.py").write_text("from __future__ import annotations\n" + text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr("daybreak.formats.bundle.PACKAGE", "daybreak_made_up")
        _read.cache_clear()

    yield make
    for name in [m for m in sys.modules if m.startswith("daybreak_made_up")]:
        del sys.modules[name]


def test_modules_stand_after_those_they_need_and_bring_comments_and_constants(package):
    package(
        first="from daybreak_made_up import algebra\nfrom daybreak_made_up.base import Base as Base\n\n\n"
        "def begin() -> int:\n    return algebra.twice(Child().value)\n\n\nclass Child(Base):\n    pass\n",
        base="import math as m\n\n# Why four.\nFOUR, UNUSED = int(m.sqrt(16)), 0\n'''Of what.'''\n\n\n"
        "class Base:\n    value = FOUR\n\n\ndef unused() -> None:\n    pass\n",
        algebra="def twice(x: int) -> int:\n    return 2 * x\n\n\ndef thrice(x: int) -> int:\n    return 3 * x\n",
        second="from daybreak_made_up.first import Child, begin\n\n\n"
        "def start() -> int:\n    return begin() + Child.value\n",
    )
    text = bundle("daybreak_made_up.second", "start", "Two.")
    names: dict[str, object] = {}
    exec(text, names)
    assert names["start"]() == 12  # type: ignore[operator]
    assert "# Why four.\nFOUR, UNUSED = int(m.sqrt(16)), 0\n'''Of what.'''" in text
    assert "unused" not in names and "thrice" not in names


def test_two_things_of_one_name_are_refused(package):
    package(
        first="def same() -> int:\n    return 1\n",
        second="from daybreak_made_up import first\n\n\ndef same() -> int:\n    return first.same()\n",
    )
    with pytest.raises(ValueError, match="both daybreak_made_up.first and daybreak_made_up.second define same"):
        bundle("daybreak_made_up.second", "same", "Two.")
