"""`daybreak teach`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from daybreak.config import Config
from daybreak.data.open import open_source
from daybreak.encoders.teach import teach


def run_teach(console: Console, config: Config, out: Path, steps: int) -> None:
    """`daybreak teach`: a vision teacher of the pictures that `config` names, or of the embedded world."""
    source = open_source(config)
    console.print(source.describe())
    for item in getattr(source, "skipped", []):
        console.print(f"skipped: {item.path}: {item.reason}")
    teach(source, steps, out, config.train.seed, console.print)
    console.print(f"{out}: a run learns from it by --alignment.weight 0.5 --alignment.teacher {out}", soft_wrap=True)
