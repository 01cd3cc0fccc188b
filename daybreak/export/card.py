"""README.md of an exported model: what it is, what it saw, what it scored, what it cost."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import yaml

from daybreak import __version__
from daybreak.config import Config
from daybreak.diffusion.times import sampling_times
from daybreak.export.licences import Licences
from daybreak.export.usage import drawing_lines, install_line, opening_lines, usage
from daybreak.model_folder import PIPELINE, PIPELINE_FILE, TRANSFORMER_FILE
from daybreak.run_folder import read_events, read_score
from daybreak.sampling.expand import RULES, expanded
from daybreak.terminal import duration

SAMPLES_FILE = "samples.png"
EXAMPLE = "a large red circle above a small blue square"


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
    samples = copy_samples(run, folder)
    head = {
        "license": licences.model or "unknown",
        "library_name": "daybreak" if form == "safetensors" else "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", "pixel-space", "daybreak"],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {run.resolve().name}",
        f"A text-to-image model of {parameters / 1e6:.1f} M parameters that generates pixels, without an autoencoder, "
        f"trained from scratch with daybreak {__version__} by the recipe `{config.recipe}`. Weights are averaged over "
        f"training and stored as {dtype}.",
    ]
    if samples:
        parts.append(f"![Samples; prompts not chosen by how they came out]({samples})")
    parts += ["## Use", _usage(config, form, dtype, differences, place)]
    parts += ["## Data", _data(config, run)]
    parts += ["## Scores", _scores(run)]
    parts += ["## Cost", cost(run)]
    parts += ["## Recipe", _recipe(config)]
    parts += ["## Licence", licence(licences)]
    path = folder / "README.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _usage(config: Config, form: str, dtype: str, differences: list[str], place: str) -> str:
    s = config.sample
    if form == "own":
        return _usage_of_own(config, dtype, differences, place)
    if form == "safetensors":
        where = shlex.quote(place)
        return (
            f"```\ndaybreak serve {where}\ndaybreak import {where} --out runs/start    # a start for training\n```\n\n"
            "`transformer.safetensors` has daybreak's names; its header holds the config."
        )
    options: dict[str, object] = {
        "num_inference_steps": s.steps,
        "guidance_scale": s.guidance,
        "use_resolution_binning": config.data.resolution == 1024,
    }
    text = usage("PRXPixelPipeline", place, dtype, "your prompt", options) + "\n\n"
    last = float(sampling_times(s.steps, config.diffusion.shift)[-2])
    text += (
        f"At {s.steps} steps the pipeline visits the noise levels of training's sampler (the last before 0 is "
        f"{last:.3f}) and, for the same noise, generates the picture of `daybreak sample`. "
        "`PRXPixelPipeline` tidies prompts first (HTML entities, broken encodings); training did not. "
        "With guidance it takes one picture a call (diffusers 0.42)."
    )
    return text + _not_the_same(differences)


def _usage_of_own(config: Config, dtype: str, differences: list[str], place: str) -> str:
    s = config.sample
    prompt, written = EXAMPLE, None
    if s.expand == RULES:
        prompt = written = expanded([EXAMPLE], RULES, 0, [0])[0]
    code = [*opening_lines(place, dtype, trust=True), *drawing_lines(prompt, {})]
    text = "```\n" + install_line(PIPELINE) + "\n```\n\n```python\n" + "\n".join(code) + "\n```\n\n"
    text += f"`{place}` is where it was exported to: put its present place, or its id on a hub, there. "
    text += (
        "`trust_remote_code=True`: diffusers has no such network, so its code lies in this folder and runs on your "
        f"machine. Read `{PIPELINE_FILE}.py` and `transformer/{TRANSFORMER_FILE}.py` before you trust them.\n\n"
        f"Unless told otherwise it takes {s.steps} steps with a guidance of {s.guidance:g}, as the run did "
        "(`num_inference_steps`, `guidance_scale`). On a GPU `torch_dtype=torch.bfloat16` or `float16` halves the "
        "memory; a CPU is slower with them. With `generator=torch.Generator().manual_seed(1_000_003 * S)` it makes "
        "the first picture of `daybreak sample --seed S`."
    )
    if written is not None:
        text += (
            f" But `daybreak sample` writes prompts out by rules first, since the model learnt from "
            f"captions that say everything; the pipeline takes them as they are given. The prompt above is "
            f"`{EXAMPLE}`, written out."
        )
    elif s.expand is not None:
        text += f" But there prompts are written out by {s.expand}; the pipeline takes them as they are given."
    return text + _not_the_same(differences)


def _not_the_same(differences: list[str]) -> str:
    return "\n\nNot the same to the last digit: " + "; ".join(differences) + "." if differences else ""


def _data(config: Config, run: Path) -> str:
    size = f"{config.data.resolution} x {config.data.resolution} px"
    if config.data.source == "scenes":
        return f"daybreak's embedded world of synthetic scenes with generated captions, {size}."
    text = f"Captioned pictures from `{Path(config.data.folder or '?').name}`, {size}."
    if (run / "skipped.jsonl").is_file():
        text += f" {len((run / 'skipped.jsonl').read_text().splitlines())} items could not be used."
    return text


def _scores(run: Path) -> str:
    shares = {name: value for name, value in read_score(run).items() if isinstance(value, float)}
    if not shares:
        return "None measured."
    rows = [f"| {name.replace('_', ' ')} | {share:.1%} |" for name, share in shares.items()]
    return "\n".join(
        [
            "Share of prompts whose picture satisfies them in every attribute:",
            "",
            "| task | followed |",
            "|---|---|",
            *rows,
        ]
    )


def cost(run: Path) -> str:
    """What training took, by the last step in RUN/log.jsonl."""
    steps = [e for e in read_events(run) if e["event"] == "step"]
    if not steps:
        return "Not recorded."
    last = steps[-1]
    return (
        f"{duration(last['seconds'])} of training (hours:minutes:seconds), {last['step']:,} steps, "
        f"{last['images']:,} pictures seen."
    )


def _recipe(config: Config) -> str:
    m, o, t, d = config.model, config.optim, config.train, config.diffusion
    rows = {
        "transformer": f"width {m.width}, depth {m.depth}, {m.heads} heads, patch {m.patch} px",
        "prediction": f"the clean picture, loss in velocity (divisor at least {d.floor:g}), shift {d.shift:g}, "
        f"noise scale {d.noise_scale:g}, captions dropped {d.p_uncond:.0%}",
        "optimiser": f"Muon {o.muon_lr:g} for the blocks' matrices, AdamW {o.adam_lr:g} for the rest",
        "batch": f"{t.batch} pictures, averaged weights with decay {t.ema:g}",
    }
    table = ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]
    return "\n".join([*table, "", "Every setting is in `daybreak.yaml`."])


def licence(licences: Licences) -> str:
    """What is known of both licences."""
    return f"Model: {licences.model or 'not stated'}. Training data: {licences.data or 'not stated'}." + (
        "" if licences.model and licences.data else " Ask whoever gave you this model before you publish with it."
    )


def copy_samples(run: Path, folder: Path) -> str | None:
    """Puts the run's last pictures beside the card; their name, or None where it has none."""
    grids = [run / "grid.png", *sorted((run / "samples").glob("*.png"), reverse=True)]
    for grid in grids:
        if grid.is_file():
            shutil.copyfile(grid, folder / SAMPLES_FILE)
            return SAMPLES_FILE
    return None
