"""`daybreak teach`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from daybreak.config import Config
from daybreak.data.open import open_source
from daybreak.data.scenes.source import ScenesSource
from daybreak.encoders.teach import probe, teach


def run_teach(console: Console, config: Config, out: Path, steps: int) -> None:
    """`daybreak teach`: a vision teacher of the pictures that `config` names, or of the embedded world."""
    source = open_source(config)
    console.print(source.describe())
    for item in getattr(source, "skipped", []):
        console.print(f"skipped: {item.path}: {item.reason}")
    network = teach(source, steps, out, config.train.seed, console.print)
    if isinstance(source, ScenesSource):
        console.print(f"a linear probe on its features names {probe(network):.0%} of single shapes")
    console.print(f"{out}: a run learns from it by --alignment.weight 0.5 --alignment.teacher {out}", soft_wrap=True)
