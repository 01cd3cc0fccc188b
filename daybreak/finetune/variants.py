"""Pipelines whose weights lie in several files for one network, told apart by a word in their names, such as fp16."""

from __future__ import annotations

import json
import re
from pathlib import Path

from daybreak.config import ConfigError

WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)(\.(?P<early>[\w-]+?))?(-\d{5}-of-\d{5})?(\.(?P<late>[\w-]+))?"
    r"\.(?P<kind>safetensors|bin)"
)
"""model.safetensors, model.fp16.safetensors, model.fp16-00001-of-00002.safetensors, model-00001-of-00002.fp16.bin"""
PLAIN = ""


def variants_of(folder: Path, allow_pickle: bool) -> dict[str, set[str]]:
    """By network of a pipeline's folder: the words in its files' names, PLAIN for those without one."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        parts = [n for n, entry in index.items() if isinstance(entry, list) and entry[0] and (folder / n).is_dir()]
    except (OSError, ValueError, AttributeError, IndexError) as e:
        raise ConfigError(f"{folder / 'model_index.json'} cannot be read: {e}") from None
    found: dict[str, set[str]] = {}
    for part in parts:
        for path in (folder / part).iterdir():
            match = WEIGHTS.fullmatch(path.name)
            if match and (allow_pickle or match["kind"] == "safetensors"):
                found.setdefault(part, set()).add(match["early"] or match["late"] or PLAIN)
    return found


def pick_variant(folder: Path, asked: str | None, allow_pickle: bool) -> str | None:
    """What diffusers is to be told. None: the plain files. ConfigError where `asked` is not there, or nothing is asked
    and there is no plain file and more than one choice."""
    found = variants_of(folder, allow_pickle)
    known = sorted({v for variants in found.values() for v in variants} - {PLAIN})
    if asked is not None:
        if asked not in known:
            there = f"; there are {', '.join(known)}" if known else ": leave it out"
            raise ConfigError(f"--variant {asked}: {folder} has no such files{there}")
        choices = {asked}
    else:
        without = [variants for variants in found.values() if PLAIN not in variants]
        if not without:
            return None
        choices = set.intersection(*without)
    for part, variants in found.items():
        if not variants & (choices | {PLAIN}):
            raise ConfigError(f"{folder}: its {part} has only {' and '.join(sorted(variants))} files, others have not")
    if len(choices) > 1:
        named = " or ".join(f"--variant {v}" for v in sorted(choices))
        raise ConfigError(f"{folder} has weights of several kinds and no plain ones: say which with {named}")
    return choices.pop()
