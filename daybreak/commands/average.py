"""`daybreak average`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from daybreak import config as configs
from daybreak.run_folder import load_run_config
from daybreak.train import checkpoint


def run_average(console: Console, run: Path, length: float, out: Path) -> None:
    """`daybreak average`: a run folder whose averaged weights have another length."""
    config = load_run_config(run, last_stage=False)
    folder = checkpoint.save_average(run, config, length, out)
    configs.save(config, out / "config.yaml")
    console.print(f"averaged over a relative length of {length:g}: {folder}", highlight=False)
