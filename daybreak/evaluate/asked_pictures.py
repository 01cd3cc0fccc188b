"""Pictures that someone asked a run for while it trains: a file each, with its prompt inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from daybreak.data.batch import to_uint8
from daybreak.evaluate.png_info import png_info


def save_asked(pictures: Tensor, prompts: Sequence[str], beside: Path, seed: int) -> dict[str, Path]:
    """Writes pictures [B, 3, H, W] in [-1, 1] as asked-N-NAME beside the samples NAME; {prompt: file}.

    N goes on from the pictures that were asked for after the same step.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    first = 1 + len(list(beside.parent.glob(f"asked-*-{beside.name}")))
    files = {}
    for n, (pixels, prompt) in enumerate(zip(to_uint8(pictures), prompts, strict=True)):
        files[prompt] = beside.with_name(f"asked-{first + n}-{beside.name}")
        Image.fromarray(pixels).save(files[prompt], pnginfo=png_info({"prompt": prompt, "seed": seed, "number": n}))
    return files
