"""README.md of an exported model: what it is, what it saw, what it scored, what it cost. cards/ has the text."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from daybreak import __version__
from daybreak.config import Config
from daybreak.diffusion.times import sampling_times
from daybreak.export.licences import Licences
from daybreak.export.usage import drawing_lines, install_line, opening_lines, versions
from daybreak.finetune.drawing import own_guidance, own_steps
from daybreak.finetune.families import family_of
from daybreak.finetune.prepared import side_of
from daybreak.finetune.settings import FinetuneSettings
from daybreak.model_folder import PIPELINE, PIPELINE_FILE, TRANSFORMER_FILE, own_adapted, read_json
from daybreak.run_folder import REPORT, read_events, read_score
from daybreak.sampling.expand import RULES, expanded
from daybreak.terminal import duration

SAMPLES_FILE = "samples.png"
EXAMPLE = "a large red circle above a small blue square"
METHODS = {
    "full": "all weights of its denoiser trained",
    "lora": "LoRA trained, and merged into its weights",
    "dora": "DoRA trained, and merged into its weights",
    "loha": "LoHa trained, and merged into its weights",
    "lokr": "LoKr trained, and merged into its weights",
    "textual-inversion": "a new word trained",
}
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "cards"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # Markdown
)
_templates.filters["duration"] = duration


def write_card(
    folder: Path,
    run: Path,
    config: Config,
    form: str,
    dtype: str,
    parameters: int,
    licences: Licences,
    differences: list[str],
    place: str,
) -> Path:
    """Writes FOLDER/README.md (a Hugging Face model card) and, where the run has a grid, FOLDER/samples.png.

    `form` is "diffusers" (a PRX), "own" (own_folder.py) or "safetensors". `run` is the run folder that the figures are
    read from; `parameters` counts all weights of the exported networks; `differences` says what keeps diffusers from
    generating the very same picture; `place` is where the folder will be.
    """
    s, skipped = config.sample, run / "skipped.jsonl"
    own, prompt = form == "own", "your prompt"
    options: dict[str, object] = {}
    if own:
        prompt = expanded([EXAMPLE], RULES, 0, [0])[0] if s.expand == RULES else EXAMPLE
    else:
        options = {
            "num_inference_steps": s.steps,
            "guidance_scale": s.guidance,
            "use_resolution_binning": config.data.resolution == 1024,
        }
    pipeline = PIPELINE if own else "PRXPixelPipeline"
    return _write(
        "trained.md", folder, run, licences,
        library="daybreak" if form == "safetensors" else "diffusers", tags=["pixel-space"],
        config=config, form=form, dtype=dtype, parameters=f"{parameters / 1e6:.1f}", differences=differences,
        place=place, quoted=shlex.quote(place), example=EXAMPLE, install=install_line(pipeline),
        lines=[*opening_lines(place, dtype, trust=own), *drawing_lines(prompt, options)],
        versions="" if own else versions(pipeline),
        last_time=float(sampling_times(s.steps, config.diffusion.shift)[-2]),
        pipeline_file=PIPELINE_FILE, transformer_file=TRANSFORMER_FILE,
        data_name=Path(config.data.folder or "?").name, skipped=_lines(skipped),
        scores={name: value for name, value in read_score(run).items() if isinstance(value, float)},
    )  # fmt: skip


def write_finetuned_card(
    folder: Path, run: Path, settings: FinetuneSettings, pipeline: Any, dtype: str, licences: Licences, place: str
) -> Path:
    """As `write_card`, of a fine-tuned pipeline."""
    kind, base = kind_written(folder), Path(settings.base)
    local = base.is_absolute() or base.exists()  # what `absolute` made of it; not a hub id
    side = side_of(family_of(pipeline, settings.base), settings)
    options: dict[str, object] = {
        "num_inference_steps": settings.sample_steps,
        "guidance_scale": settings.guidance,
        "height": side,
        "width": side,
    }
    if own_adapted(settings.base):
        told = {"num_inference_steps": own_steps(settings), "guidance_scale": own_guidance(settings)}
        options = {k: v for k, v in (options | told).items() if v is not None}
    if kind.startswith("PRX"):
        options["use_resolution_binning"] = side == 1024
    named = f"{settings.trigger}, your prompt" if settings.trigger else "your prompt"
    prompt = settings.instance_prompt or (f"a picture of {settings.token}" if settings.token else named)
    report = run / REPORT
    return _write(
        "finetuned.md", folder, run, licences,
        library="diffusers", tags=[], **{} if local else {"base_model": settings.base},
        settings=settings, base=base.name if local else settings.base, kind=kind, method=METHODS[settings.method],
        dtype=dtype, place=place, install=install_line(kind),
        lines=[*opening_lines(place, dtype, trust=kind == PIPELINE), *drawing_lines(prompt, options)],
        versions=versions(kind), side=side, square=settings.square, data_name=Path(settings.data).name,
        trained_on=_lines(run / "training.jsonl"),
        verdict=json.loads(report.read_text(encoding="utf-8"))["verdict"] if report.is_file() else None,
    )  # fmt: skip


def kind_written(folder: Path) -> str:
    """The class of the pipeline that a folder holds."""
    name = read_json(folder / "model_index.json")["_class_name"]
    return str(name[1] if isinstance(name, list) else name)


def _write(
    template: str, folder: Path, run: Path, licences: Licences, library: str, tags: list[str],
    base_model: str | None = None, **values: Any,
) -> Path:  # fmt: skip
    head: dict[str, Any] = {
        "license": licences.model or "unknown",
        "library_name": library,
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", *tags, "daybreak"],
    } | ({} if base_model is None else {"base_model": base_model})
    card = _templates.get_template(template).render(
        values, head=yaml.safe_dump(head, sort_keys=False), name=run.resolve().name, version=__version__,
        licences=licences, samples=_copy_samples(run, folder),
        last=next((e for e in reversed(read_events(run)) if e["event"] == "step"), None),
    )  # fmt: skip
    path = folder / "README.md"
    path.write_text(card, encoding="utf-8")
    return path


def _lines(path: Path) -> int | None:
    """How many lines a file has; None where there is none."""
    return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else None


def _copy_samples(run: Path, folder: Path) -> str | None:
    """Puts the run's last pictures beside the card; their name, or None where it has none."""
    grids = [run / "grid.png", *sorted((run / "samples").glob("*.png"), reverse=True)]
    for grid in grids:
        if grid.is_file():
            shutil.copyfile(grid, folder / SAMPLES_FILE)
            return SAMPLES_FILE
    return None
