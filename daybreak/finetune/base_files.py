"""The files of what fine-tuning starts from, looked at before torch loads and they are opened."""

from __future__ import annotations

import json
import re
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.files import check_safetensors
from daybreak.finetune.variants import pick_variant

PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def check_base(base: str, allow_pickle: bool, config: str | None, variant: str | None) -> str | None:
    """Which variant of its files a base is opened in: `variant`, or those that a folder has in place of plain ones.

    Arguments as of `bases.open_base`. Raises ConfigError where the base is missing or refused.
    """
    path = Path(base).expanduser()
    if path.is_file():
        if variant is not None:
            raise ConfigError(f"--variant is for folders and hub ids; {base} is one file: leave it out")
        if path.suffix.lower() in PICKLES and not allow_pickle:
            raise ConfigError(_refusal(path))
        if path.suffix.lower() not in (".safetensors", *PICKLES):
            raise ConfigError(f"{path} is no base: a single file ends in .safetensors")
        if path.suffix.lower() == ".safetensors":
            check_safetensors(path)
        return None
    if config is not None:
        raise ConfigError(f"--base-config goes with a single file; {base} brings its own configuration: leave it out")
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ConfigError(f"{base} is no base: it holds no model_index.json (a diffusers pipeline)")
        if not allow_pickle:
            _refuse_pickles(path)
        for file in sorted(path.glob("*/*.safetensors")):
            check_safetensors(file)
        return pick_variant(path, variant, allow_pickle)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", base) or path.parent.exists():
        raise ConfigError(f"{base}: no such folder or file, and no hub id such as owner/name")
    return variant


def predicts_noise(base: str) -> bool:
    """Whether the scheduler of a folder is one of models that predict noise or v; False where no file can tell."""
    try:
        config = json.loads((Path(base).expanduser() / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "beta_start" in config


def _refuse_pickles(folder: Path) -> None:
    """ConfigError where a part of the pipeline has its weights as pickle only."""
    for part in sorted(p for p in folder.iterdir() if p.is_dir()):
        files = [p for p in part.iterdir() if p.is_file()]
        pickles = [p for p in files if p.suffix in PICKLES]
        if pickles and not any(p.suffix == ".safetensors" for p in files):
            raise ConfigError(_refusal(pickles[0]))


def _refusal(path: Path) -> str:
    return (
        f"{path} is a pickle, which can run code when it is opened: take the model's safetensors, or give "
        "--allow-pickle if you trust its maker (it is then read without running code)"
    )
