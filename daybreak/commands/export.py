"""What `daybreak export` and `daybreak import` do: first they refuse what cannot be, then torch loads."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from daybreak.config import ConfigError
from daybreak.export.licences import Licences
from daybreak.files import check_empty
from daybreak.model_folder import Format, check_kind, kind_of
from daybreak.run_folder import stored_averages, trained_config


def run_export(
    console: Console, run: Path, to: Format, out: Path, dtype: str, licences: Licences, ema: float | None = None
) -> None:
    """`daybreak export`: the averaged networks of a run as a folder for others, with a model card.

    ema: the relative length of the average (train/phema.py), where the run kept snapshots; none: the run's own.
    """
    check_empty(out)
    if kind_of(run) == "finetuned":
        if ema is not None:
            raise ConfigError(f"--ema: {run} is a fine-tuning run, which keeps one average; leave it out")
        if to != "diffusers":
            raise ConfigError(f"{run} is a run of daybreak finetune: it is exported --to diffusers")
        from daybreak.export.write import export_finetuned

        export_finetuned(console, run, out, dtype, licences)
        return
    config = trained_config(run)
    if ema is not None:
        stored_averages(run)
    from daybreak.export.write import export_run

    export_run(console, run, config, to, out, dtype, licences, ema)


def run_import(console: Console, folder: Path, out: Path, data: Path | None) -> None:
    """`daybreak import`: an exported folder as a run at step 0, to train on from."""
    check_empty(out)
    kind = check_kind(folder)
    if kind == "run":
        raise ConfigError(f"{folder} is a run already: continue it with daybreak train --resume {folder}")
    if kind == "quantized":
        raise ConfigError(f"{folder} holds 8-bit weights, which cannot be trained; import the full model")
    if kind in ("finetuned", "pipeline"):
        raise ConfigError(
            f"{folder}: training starts from PRXPixelPipeline folders and from what daybreak export wrote; "
            "daybreak finetune takes other pipelines"
        )
    if data is not None and not data.expanduser().is_dir():
        raise ConfigError(f"--data {data}: no such folder")
    from daybreak.export.write import import_folder

    import_folder(console, folder, out, data)
