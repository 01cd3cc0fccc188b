"""Pictures as files: PNG with its parameters inside, and the short-lived store behind `response_format: url`."""

from __future__ import annotations

import io
import secrets
import time
from collections import OrderedDict
from typing import Any

from PIL import Image

from daybreak.evaluate.png_info import png_info
from daybreak.serve.jobs import Job, Pixels

KEPT = 256
KEPT_SECONDS = 3600.0
FILE_NAME = r"^[0-9a-f]{32}\.png$"


def png(pixels: Pixels, parameters: dict[str, Any] | None = None) -> bytes:
    """Pixels [H, W, 3] uint8 as PNG; `parameters` go into it (evaluate/png_info.py)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=png_info(parameters), compress_level=4)
    return file.getvalue()


def parameters_of(model: str, job: Job) -> dict[str, Any]:
    """What it takes to generate the picture again; `revised_prompt` is what its prompt was written out to."""
    order = job.order
    return {
        "model": model,
        "prompt": order.prompt,
        **({"revised_prompt": job.revised_prompt} if job.revised_prompt else {}),
        "negative_prompt": order.negative_prompt,
        "size": f"{order.width}x{order.height}",
        "steps": order.steps,
        "guidance": order.guidance,
        "seed": order.seed,
        **({} if order.expand else {"expand": False}),
    }


class Store:
    """The latest pictures under names that cannot be guessed; each for an hour at most."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def put(self, data: bytes) -> str:
        """Keeps a PNG and returns its file name."""
        name = f"{secrets.token_hex(16)}.png"
        self._files[name] = (time.monotonic(), data)
        while len(self._files) > KEPT or next(iter(self._files.values()))[0] < time.monotonic() - KEPT_SECONDS:
            self._files.popitem(last=False)
        return name

    def get(self, name: str) -> bytes | None:
        """The PNG of that name, if it is still kept."""
        kept, data = self._files.get(name, (0.0, None))
        return data if kept > time.monotonic() - KEPT_SECONDS else None
