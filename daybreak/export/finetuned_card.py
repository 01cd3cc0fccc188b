"""README.md of an exported fine-tuned model: what it is, how it is opened, what it saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from daybreak import __version__
from daybreak.export.card import copy_samples, cost, licence
from daybreak.export.licences import Licences
from daybreak.export.usage import usage
from daybreak.finetune.drawing import own_guidance, own_steps
from daybreak.finetune.families import family_of
from daybreak.finetune.prepared import side_of
from daybreak.finetune.settings import FinetuneSettings
from daybreak.model_folder import own_adapted, read_json

METHODS = {
    "full": "all weights of its denoiser trained",
    "lora": "LoRA trained, and merged into its weights",
    "dora": "DoRA trained, and merged into its weights",
    "loha": "LoHa trained, and merged into its weights",
    "lokr": "LoKr trained, and merged into its weights",
    "textual-inversion": "a new word trained",
}


def write_finetuned_card(
    folder: Path, run: Path, settings: FinetuneSettings, pipeline: Any, dtype: str, licences: Licences, place: str
) -> Path:
    """Writes FOLDER/README.md (a Hugging Face model card) and FOLDER/samples.png.

    `place` is where the folder will be.
    """
    samples = copy_samples(run, folder)
    kind = kind_written(folder)
    local = (
        Path(settings.base).is_absolute() or Path(settings.base).exists()
    )  # what `absolute` made of it; not a hub id
    base = Path(settings.base).name if local else settings.base
    head: dict[str, Any] = {
        "license": licences.model or "unknown",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", "daybreak"],
    } | ({} if local else {"base_model": base})
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
    prompt = settings.instance_prompt or (f"a picture of {settings.token}" if settings.token else "your prompt")
    text = " and the text encoder" if settings.train_text_encoder else ""
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {run.resolve().name}",
        f"`{base}`, a {kind}, fine-tuned with daybreak {__version__}: {METHODS[settings.method]}{text}. "
        f"Weights are stored as {dtype}.",
    ]
    if samples:
        parts.append(f"![Samples; prompts not chosen by how they came out]({samples})")
    parts += ["## Use", usage(kind, place, dtype, prompt, options)]
    parts += ["## Data", _data(settings, run, side)]
    parts += ["## Scores", _scores(run)]
    parts += ["## Cost", cost(run)]
    parts += ["## Licence", licence(licences) + " The base has a licence of its own, which holds for this model too."]
    path = folder / "README.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def kind_written(folder: Path) -> str:
    """The class of the pipeline that a folder holds."""
    name = read_json(folder / "model_index.json")["_class_name"]
    return str(name[1] if isinstance(name, list) else name)


def _data(settings: FinetuneSettings, run: Path, side: int) -> str:
    listed = run / "training.jsonl"
    count = f"{len(listed.read_text(encoding='utf-8').splitlines()):,} captioned" if listed.is_file() else "Captioned"
    return f"{count} pictures from `{Path(settings.data).name}`, {side} x {side} px."


def _scores(run: Path) -> str:
    report = run / "report" / "report.json"
    if not report.is_file():
        return "None measured."
    verdict = json.loads(report.read_text(encoding="utf-8"))["verdict"]
    return "\n".join(["Against the base, by the run's report:", "", *(f"- {line}" for line in verdict)])
