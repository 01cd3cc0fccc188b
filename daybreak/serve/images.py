"""Pictures as files with their parameters inside, and the short-lived store behind `response_format: url`."""

from __future__ import annotations

import io
import json
import secrets
import time
from collections import OrderedDict
from typing import Any

from PIL import Image

from daybreak.evaluate.png_info import png_info
from daybreak.serve.jobs import Job, Pixels

KEPT = 256
KEPT_SECONDS = 3600.0
FORMATS = ("png", "jpeg", "webp")
FILE_NAME = rf"^[0-9a-f]{{32}}\.({'|'.join(FORMATS)})$"
IMAGE_DESCRIPTION = 0x010E
"""The EXIF field that holds the parameters where a format has no text chunks; ASCII, so JSON escapes the rest."""


def picture_file(
    pixels: Pixels, parameters: dict[str, Any] | None = None, kind: str = "png", quality: int = 100
) -> bytes:
    """Pixels [H, W, 3] uint8 as one of FORMATS; `parameters` go into it: a PNG's text chunk, else EXIF's description.

    quality: 0..100, of JPEG and WebP.
    """
    file, image = io.BytesIO(), Image.fromarray(pixels)
    if kind == "png":
        image.save(file, "PNG", pnginfo=png_info(parameters), compress_level=4)
        return file.getvalue()
    exif = Image.Exif()
    if parameters is not None:
        exif[IMAGE_DESCRIPTION] = json.dumps(parameters)
    image.save(file, kind.upper(), quality=quality, exif=exif)
    return file.getvalue()


def parameters_of(model: str, job: Job) -> dict[str, Any]:
    """What it takes to generate the picture again; `revised_prompt` is what its prompt was written out to."""
    order = job.order
    return {
        "model": model,
        "prompt": order.prompt,
        **({"revised_prompt": job.revised_prompt} if job.revised_prompt else {}),
        "negative_prompt": order.negative_prompt,
        "size": order.size,
        "steps": order.steps,
        "guidance": order.guidance,
        "seed": order.seed,
        **({} if order.expand else {"expand": False}),
        **({"loras": dict(order.loras)} if order.loras else {}),
        **({} if order.start is None else {"strength": order.start.strength}),
    }


class Store:
    """The latest pictures under names that cannot be guessed; each for an hour at most."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def put(self, data: bytes, kind: str) -> str:
        """Keeps a file of one of FORMATS and returns its name."""
        name = f"{secrets.token_hex(16)}.{kind}"
        self._files[name] = (time.monotonic(), data)
        while len(self._files) > KEPT or next(iter(self._files.values()))[0] < time.monotonic() - KEPT_SECONDS:
            self._files.popitem(last=False)
        return name

    def get(self, name: str) -> bytes | None:
        """The file of that name, if it is still kept."""
        kept, data = self._files.get(name, (0.0, None))
        return data if kept > time.monotonic() - KEPT_SECONDS else None
