"""What each setting means, read from the docstrings below the fields."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from daybreak.config.fields import fields_of
from daybreak.config.overrides import sections
from daybreak.config.settings import Config, StageConfig
from daybreak.config.values import shown


def documented_fields(config: Config) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """[(section, [(field, value, meaning)])], the meanings in one line."""
    parts = [(section, kind, getattr(config, section)) for section, kind in sections().items()]
    parts += [(f"stages.{i}", StageConfig, stage) for i, stage in enumerate(config.stages)]
    return [
        (section, [(name, shown(getattr(values, name)), meaning) for name, meaning in meanings(kind).items()])
        for section, kind, values in parts
    ]


def meanings(kind: type) -> dict[str, str]:
    """What each field of a dataclass means, in one line; those that it inherits first."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__[:-1]):
        found |= _of_module(part.__module__)[part.__name__]
    return found


def forms(kind: type) -> dict[str, str]:
    """What may be typed for each field of a section as --section.field, whose name says the unit."""
    return {name: dataclasses.replace(field, typed=None).form for name, field in fields_of(kind).items()}


@functools.cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """{class: {field: meaning}} of a module's source."""
    file = sys.modules[name].__file__
    assert file is not None
    classes = [c for c in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(c, ast.ClassDef)]
    result: dict[str, dict[str, str]] = {}
    for c in classes:
        result[c.name] = {}
        for statement, following in zip(c.body, [*c.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = following.value if isinstance(following, ast.Expr) else None
                meaning = str(text.value) if isinstance(text, ast.Constant) else ""
                result[c.name][statement.target.id] = " ".join(meaning.split())
    return result


def first_sentence(thing: Any) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(thing) or "").split())
    return re.split(r"(?<=\.) ", text, maxsplit=1)[0]
