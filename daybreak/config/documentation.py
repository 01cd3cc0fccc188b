"""What each setting means, read from the docstrings in settings.py."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from daybreak.config.overrides import sections
from daybreak.config.settings import Config, StageConfig


def documented_fields(config: Config) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """[(section, [(field, value, meaning)])]: the meanings are the docstrings below the fields in this file."""
    result = []
    parts = [(section, kind, getattr(config, section)) for section, kind in sections().items()]
    parts += [(f"stages.{i}", StageConfig, stage) for i, stage in enumerate(config.stages)]
    for section, kind, values in parts:
        (tree,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(tree, ast.ClassDef)
        meanings: dict[str, str] = {}
        for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = following.value if isinstance(following, ast.Expr) else None
                meaning = text.value if isinstance(text, ast.Constant) else ""
                meanings[statement.target.id] = " ".join(str(meaning).split())
        result.append((section, [(n, _shown(getattr(values, n)), m) for n, m in meanings.items()]))
    return result


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(v) for v in value) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
