"""What a model is asked to generate where its pictures are compared with others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from daybreak.config import ConfigError

KEYS = ("prompt", "text", "caption")


def read_prompt_file(path: Path) -> list[str]:
    """Prompts of a .txt (one a line) or .jsonl file (`prompt`, `text` or `caption` in each line).

    Raises ConfigError that names the file and line where that is not what it holds.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"--prompts {path} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    prompts = [line for line in lines if line]
    if path.suffix.lower() in (".jsonl", ".json"):
        prompts = [_of_json(line, f"{path}, line {n}") for n, line in enumerate(lines, start=1) if line]
    if not prompts:
        raise ConfigError(f"--prompts {path} holds no prompts")
    return prompts


def _of_json(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise ConfigError(f"{where} is not JSON: {e.msg}") from None
    found = next((row[k] for k in KEYS if isinstance(row.get(k), str)), None) if isinstance(row, dict) else None
    if found is None:
        raise ConfigError(f"{where} needs one of {', '.join(KEYS)}")
    return found


def spread(prompts: list[str], count: int, seed: int) -> list[str]:
    """`count` prompts: all of them in random order, again and again where there are fewer."""
    rng = np.random.default_rng(seed)
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += [prompts[i] for i in rng.permutation(len(prompts))]
    return chosen[:count]
