"""What is shown of a moment of a run: pictures as files without letters, and beside them, as data, what to say of them.

FOLDER/shown.json names the files and holds captions, what the judge saw, and where words are looked at; the page of
`daybreak watch` and report.html are made of it (`run_folder.read_shown`). TensorBoard, which shows pictures alone, gets
grids with letters.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from daybreak.data.batch import to_uint8
from daybreak.evaluate.attention_maps import Look, Predicted
from daybreak.evaluate.judge import Told
from daybreak.files import write_whole
from daybreak.run_folder import SHOWN

PNG_PX = 256
"""Larger pictures are written as JPEG: a run keeps hundreds of them."""
JPEG_QUALITY = 92


class Shown:
    """A folder that is being filled; `close` writes its shown.json. Raises OSError where the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def pictures(
        self, pictures: Tensor | Sequence[Tensor], prompts: Sequence[str], followed: Sequence[bool] | None = None,
        told: Sequence[list[Told]] | None = None, name: str = "prompt",
    ) -> list[str]:  # fmt: skip
        """Pictures [B, 3, H, W], or [3, H, W] each, in [-1, 1] of `prompts`, and what the judge says of each.

        Returns their files.
        """
        files = self._save(pictures, name)
        self._said[name] = [
            {"file": file, "prompt": prompt}
            | ({} if followed is None else {"followed": followed[i]})
            | ({} if told is None else {"told": [asdict(t) for t in told[i]]})
            for i, (file, prompt) in enumerate(zip(files, prompts, strict=True))
        ]
        return files

    def guidance(self, files: Sequence[str], pictures: Tensor, prompts: Sequence[str], names: tuple[str, str]) -> None:
        """The same noise with another guidance, beside `files`; `names` are those of the two kinds."""
        others = self._save(pictures, "guidance")
        pairs = [{"file": a, "other": b, "prompt": p} for a, b, p in zip(files, others, prompts, strict=True)]
        self._said["guidance"] = {"names": names, "pairs": pairs}

    def words(self, files: Sequence[str], prompts: Sequence[str], looks: Sequence[Sequence[Look]]) -> None:
        """Where the words of prompts are looked at in the pictures `files`."""
        self._said["words"] = [
            {"file": file, "prompt": prompt, "words": [_as_word(look) for look in found]}
            for file, prompt, found in zip(files, prompts, looks, strict=True)
        ]

    def noise(self, rows: Sequence[Predicted]) -> None:
        """Rows of what the model takes a picture for through more and less noise."""
        self._said["noise"] = []
        for r, row in enumerate(rows):
            files = self._save(row.pictures, f"noise-{r}")
            said = [{"file": f, "label": label} for f, label in zip(files, row.labels, strict=True)]
            self._said["noise"].append({"title": row.caption, "pictures": said})

    def close(self) -> None:
        """All pictures are there: says so."""
        write_whole(self._folder / SHOWN, json.dumps(self._said, ensure_ascii=False))

    def _save(self, pictures: Tensor | Sequence[Tensor], name: str) -> list[str]:
        kind = "png" if max(max(p.shape[1:]) for p in pictures) <= PNG_PX else "jpg"
        how: dict[str, Any] = {"compress_level": 3} if kind == "png" else {"quality": JPEG_QUALITY}
        files = [f"{name}-{i:02d}.{kind}" for i in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            Image.fromarray(np.ascontiguousarray(to_uint8(picture[None])[0])).save(self._folder / file, **how)
        return files


def _as_word(look: Look) -> dict[str, Any]:
    """The map as bytes, 0 where it is least and 255 where it is largest, row by row."""
    where = look.where.float()
    heat = (where - where.min()) / (where.max() - where.min()).clamp(min=1e-12)
    raw = (255 * heat).round().to(torch.uint8).cpu().numpy().tobytes()
    return {
        "word": look.word,
        "share": round(look.share, 4),
        "columns": where.shape[1],
        "map": base64.b64encode(raw).decode(),
    }
