"""What `daybreak export` and `daybreak import` do: first they refuse what cannot be, then torch loads."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from daybreak.config import ConfigError
from daybreak.export.licences import Licences
from daybreak.files import check_empty
from daybreak.finetune.settings import load
from daybreak.model_folder import Format, check_kind, kind_of
from daybreak.run_folder import stored_averages, trained_config


def run_export(
    console: Console, run: Path, to: Format, out: Path, dtype: str, licences: Licences, ema: float | None = None
) -> None:
    """`daybreak export`: the averaged networks of a run as a folder for others, with a model card.

    ema: the relative length of the average (train/phema.py), where the run kept snapshots; none: the run's own.
    """
    if to == "single-file":
        _check_single_file(run, out, ema)
        from daybreak.export.write import export_single_file

        export_single_file(console, run, out, dtype)
        return
    check_empty(out)
    if kind_of(run) == "finetuned":
        if ema is not None:
            raise ConfigError(f"--ema: {run} is a fine-tuning run, which keeps one average; leave it out")
        if to != "diffusers":
            raise ConfigError(f"{run} is a run of daybreak finetune: it is exported --to diffusers, or single-file")
        from daybreak.export.write import export_finetuned

        export_finetuned(console, run, out, dtype, licences)
        return
    config = trained_config(run)
    if ema is not None:
        stored_averages(run)
    from daybreak.export.write import export_run

    export_run(console, run, config, to, out, dtype, licences, ema)


def _check_single_file(run: Path, out: Path, ema: float | None) -> None:
    """ConfigError for what can be known to be wrong before the model is opened."""
    if kind_of(run) != "finetuned":
        raise ConfigError(f"--to single-file is for runs of daybreak finetune; {run} is none")
    if ema is not None:
        raise ConfigError(f"--ema: {run} is a fine-tuning run, which keeps one average; leave it out")
    if load(run).token is not None:
        raise ConfigError(f"{run} trained a new word, for which a single file has no place: take {run / 'embedding'}")
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: a single file ends in .safetensors")
    if out.exists():
        raise ConfigError(f"--out {out} exists already; choose another name")


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
