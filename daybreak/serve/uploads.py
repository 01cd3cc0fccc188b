"""The pictures and fields of a multipart form: what edits and variations bring."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np
from fastapi import Request
from PIL import Image, ImageOps, UnidentifiedImageError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException

from daybreak.serve.errors import ApiError
from daybreak.serve.jobs import Start
from daybreak.serve.settings import MAX_PICTURES, MAX_UPLOAD_PIXELS

ACCEPTED = ("PNG", "JPEG", "WEBP")
FIELDS = 40
"""Most fields of a form; there are fewer."""


@dataclass(frozen=True)
class Upload:
    """What a form holds: its pictures as files, a mask's, its other fields as text, all `loras[NAME]` as one field."""

    pictures: list[bytes]
    mask: bytes | None
    fields: dict[str, str | dict[str, str]]


async def read_form(request: Request) -> Upload:
    """ApiError 400 for what is no form with one picture to MAX_PICTURES, and 403 for one that another page sent."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ApiError(403, "a page elsewhere may not send forms here")  # a browser sends them without asking first
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "the body must be multipart/form-data, with the picture in its field image", param="image")
    try:
        async with request.form(max_files=MAX_PICTURES + 1, max_fields=FIELDS) as form:
            return await _sorted(form)
    except MultiPartException as e:
        raise ApiError(400, f"the form can't be read: {e.message}") from None


async def _sorted(form: FormData) -> Upload:
    pictures: list[bytes] = []
    mask: bytes | None = None
    fields: dict[str, str | dict[str, str]] = {}
    loras: dict[str, str] = {}
    for name, value in form.multi_items():
        if name in ("image", "image[]", "mask"):
            if not isinstance(value, UploadFile):
                raise ApiError(400, f"{name}: must be a file", param=name.removesuffix("[]"))
            data = await value.read()
            if name != "mask":
                pictures.append(data)
            elif mask is None:
                mask = data
            else:
                raise ApiError(400, "mask: there are two; one is taken", param="mask")
        elif isinstance(value, str) and (of_lora := re.fullmatch(r"loras\[(.*)\]", name, re.DOTALL)):
            loras[of_lora[1]] = value
        elif isinstance(value, str):
            fields[name.removesuffix("[]")] = value
        else:
            raise ApiError(400, f"{name}: is no field for a file", param=name, code="unknown_parameter")
    if loras:
        fields["loras"] = loras
    if not pictures:
        raise ApiError(400, "image: a picture is needed", param="image", code="missing_required_parameter")
    return Upload(pictures, mask, fields)


def open_picture(data: bytes, field: str) -> Image.Image:
    """A PNG, JPEG or WebP, upright, as RGB or RGBA; ApiError 400 that names the field otherwise."""
    try:
        image = Image.open(io.BytesIO(data), formats=ACCEPTED)
        if image.width * image.height > MAX_UPLOAD_PIXELS:
            raise ApiError(400, f"{field}: {image.width}x{image.height} is more than {MAX_UPLOAD_PIXELS} px", field)
        transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        return ImageOps.exif_transpose(image).convert("RGBA" if transparent else "RGB")
    except UnidentifiedImageError:
        raise ApiError(400, f"{field}: is no picture; {', '.join(ACCEPTED)} are read", field) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise ApiError(400, f"{field}: the picture can't be read: {e}", field) from None


def mask_of(picture: Image.Image, mask: Image.Image | None) -> Image.Image | None:
    """Where the picture may change, white, as an image of mode L; None: everywhere.

    As in OpenAI's API that is where the mask is transparent, or the picture itself where there is no mask. A mask
    without transparency says it in white. ApiError 400 where mask and picture differ in size.
    """
    if mask is not None and mask.size != picture.size:
        sizes = [f"{image.width}x{image.height}" for image in (mask, picture)]
        raise ApiError(400, f"mask: its size {sizes[0]} is not the picture's, {sizes[1]}", param="mask")
    said = picture if mask is None else mask
    if said.mode == "RGBA":
        return ImageOps.invert(said.getchannel("A"))
    return None if mask is None else mask.convert("L")


def start_of(picture: Image.Image, mask: Image.Image | None, size: tuple[int, int], strength: float) -> Start:
    """A picture to start from, cut from its centre to the shape of `size` (width, height) and scaled to it."""
    pixels = np.asarray(ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.LANCZOS))
    where = None if mask is None else np.asarray(ImageOps.fit(mask, size, Image.Resampling.BILINEAR)) > 127
    return Start(pixels, where, strength)
