"""How an exported pipeline is opened: what to install, the lines to run, and the versions that were tried."""

from __future__ import annotations

import json
import re
from importlib.metadata import requires, version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("torch", "diffusers", "transformers", "accelerate")
"""accelerate only makes opening quicker: left out where it is not there."""
NEEDS_FTFY = ("PRXPipeline", "PRXPixelPipeline")
"""Pipelines that call ftfy, and do not say so where it is missing (findings/ftfy_missing.sh)."""
OPENS: dict[str, list[tuple[str, str]]] = json.loads((Path(__file__).parent / "opens.json").read_text())
"""By pipeline: versions of diffusers and transformers that open it, as benchmarks/opens.py measured."""


def install_line(pipeline: str) -> str:
    """What a fresh environment needs to generate with a pipeline of this class, in the versions that wrote it."""
    known = [n for n in PACKAGES if n != "accelerate" or find_spec(n)]
    names = [*known, *(["ftfy"] if pipeline in NEEDS_FTFY else [])]
    return "pip install " + " ".join(_pinned(name) for name in names)


def _pinned(name: str) -> str:
    """A package in the version that is here; an export that brings its code is written without diffusers, too."""
    if find_spec(name) is None:
        return f"'{_required(name)}'" if name == "diffusers" else name
    return f"{name}=={version(name).partition('+')[0]}"


def _required(name: str) -> str:
    """A package with the versions of it that daybreak works with, as pyproject.toml has them."""
    return next(r.partition(";")[0].strip() for r in requires("daybreak") or () if re.match(rf"{name}\b", r))


def opening_lines(place: str, dtype: str, trust: bool = False) -> list[str]:
    """Python that opens the folder. torch_dtype, as older versions of diffusers call it, is known to all of them.

    trust: the folder brings code of its own along.
    """
    trusted = ", trust_remote_code=True" if trust else ""
    return [
        "import torch",
        "from diffusers import DiffusionPipeline",
        "",
        f"pipeline = DiffusionPipeline.from_pretrained({json.dumps(place)}, torch_dtype=torch.{dtype}{trusted})",
    ]


def drawing_lines(prompt: str, options: dict[str, object]) -> list[str]:
    """Python that generates with `pipeline`."""
    return [
        'pipeline.to("cuda" if torch.cuda.is_available() else "cpu")',
        "image = pipeline(",
        f"    {json.dumps(prompt, ensure_ascii=False)},",
        *(f"    {name}={value!r}," for name, value in options.items()),
        ").images[0]",
        'image.save("picture.png")',
    ]


def versions(pipeline: str) -> str:
    """The card's sentence on other versions."""
    if pipeline not in OPENS:
        written = " and ".join(f"{name} {version(name)}" for name in PACKAGES[1:3] if find_spec(name))
        return f"It was written with {written}; other versions were not tried."
    pairs = [f"diffusers {diffusers} with transformers {transformers}" for diffusers, transformers in OPENS[pipeline]]
    return (
        f"Tiny models of this kind, written alike, were opened and sampled as float32, float16 and bfloat16 by "
        f"{', '.join(pairs)}. Other versions were not tried."
    )


def shown(out: Path) -> str:
    """A folder as the user reaches it from where the command ran."""
    inside = out.is_absolute() and out.is_relative_to(Path.cwd())
    return str(out.relative_to(Path.cwd())) if inside else str(out)
