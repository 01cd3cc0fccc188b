"""From a request to the pictures that it asks for."""

from __future__ import annotations

import secrets

from PIL import Image

from daybreak.serve.errors import ApiError
from daybreak.serve.jobs import Order, Start
from daybreak.serve.models import ModelInfo
from daybreak.serve.schemas import EditRequest, GenerationRequest
from daybreak.serve.settings import MAX_PICTURES, ServeSettings
from daybreak.serve.sizes import has_size, nearest_size, parse_size
from daybreak.serve.uploads import Upload, mask_of, open_picture, start_of

STRENGTH = 0.6
"""Share of the steps that are taken from a picture on where the request does not say and there is no mask."""


def orders_of(
    request: GenerationRequest, info: ModelInfo, settings: ServeSettings, upload: Upload | None
) -> list[Order]:
    """The pictures that a request asks for, `n` of each that it brings.

    ApiError 400 that names the field where the model can't generate them.
    """
    steps = request.steps or info.steps
    if steps > settings.max_steps:
        raise ApiError(400, f"steps: {steps} is more than {settings.max_steps}, the most here", param="steps")
    asked = parse_size(request.size)
    if upload is None:
        starts: list[Start | None] = [None]
        sizes = [_size(info, asked or (info.size, info.size), settings.strict)]
    else:
        starts, sizes = _starts(request, info, settings, upload)
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    loras = _loras(request, info)
    count = request.n or 1
    if count * len(starts) > MAX_PICTURES:
        raise ApiError(400, f"n: {count} of each of {len(starts)} pictures are more than {MAX_PICTURES}", param="n")
    return [
        Order(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt or "",
            width=width,
            height=height,
            steps=steps,
            guidance=info.guidance if request.guidance is None else request.guidance,
            seed=seed + i,
            expand=request.expand is not False,
            start=start,
            loras=loras,
        )
        for start, (width, height) in zip(starts, sizes, strict=True)
        for i in range(count)
    ]


def _loras(request: GenerationRequest, info: ModelInfo) -> tuple[tuple[str, float], ...]:
    """In the model's order, so that a set is one in whichever order it is asked for; without those of no effect."""
    asked = request.loras or {}
    if unknown := [name for name in asked if name not in info.loras]:
        there = ", ".join(info.loras) or "none"
        raise ApiError(400, f"loras: no adapter is named {unknown[0]!r}; {info.name} has {there}", param="loras")
    return tuple((name, asked[name]) for name in info.loras if asked.get(name))


def _size(info: ModelInfo, asked: tuple[int, int], strict: bool) -> tuple[int, int]:
    if has_size(info, *asked):
        return asked
    nearest = nearest_size(info, *asked)
    if strict:
        there = f"sides that {info.multiple} divides, up to {info.max_size} px"
        raise ApiError(
            400,
            f"size: {info.name} does not draw {asked[0]}x{asked[1]}, but {there}; {nearest[0]}x{nearest[1]} is nearest",
            param="size",
        )
    return nearest


def _starts(
    request: GenerationRequest, info: ModelInfo, settings: ServeSettings, upload: Upload
) -> tuple[list[Start | None], list[tuple[int, int]]]:
    if not info.edits:
        raise ApiError(400, f"model: {info.name} can't start from a picture", param="model")
    mask = None if upload.mask is None else open_picture(upload.mask, "mask")
    starts: list[Start | None] = []
    sizes = []
    for data in upload.pictures:
        picture = open_picture(data, "image")
        where = mask_of(picture, mask)
        asked = parse_size(request.size)
        size = _size(info, asked, settings.strict) if asked else _own_size(info, picture)
        given = request.strength if isinstance(request, EditRequest) else None
        starts.append(start_of(picture, where, size, given or (STRENGTH if where is None else 1.0)))
        sizes.append(size)
    return starts, sizes


def _own_size(info: ModelInfo, picture: Image.Image) -> tuple[int, int]:
    """A picture's shape at as many pixels as the model was trained at."""
    scale = info.max_size / min(picture.size) + 1  # beyond what there is, so that it is scaled to the trained size
    return nearest_size(info, round(picture.width * scale), round(picture.height * scale))
