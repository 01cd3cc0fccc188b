"""Pictures on disk as evaluation sees them: whole, in RGB; with captions where there are any."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.data.batch import to_uint8
from daybreak.data.folder import MAX_PIXELS, PICTURE_SUFFIXES, Item, Skipped, list_items

T = TypeVar("T")
AHEAD = 64
"""Pictures that are decoded ahead of their use; what bounds the memory."""


@dataclass
class PictureFolder:
    """Pictures in a fixed order. `skipped` fills up as unreadable ones are met."""

    path: Path
    items: list[Item]
    skipped: list[Skipped] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def captioned(self) -> list[Item]:
        """Those with a caption."""
        return [i for i in self.items if i.caption]


def open_pictures(path: Path, flag: str) -> PictureFolder:
    """The pictures of a folder, at any depth, with the captions of its metadata.jsonl, metadata.csv or .txt files.

    Raises ConfigError, which begins with `flag`, where the folder is missing or holds no picture.
    """
    if not path.is_dir():
        raise ConfigError(f"{flag} {path}: no such folder")
    if not any(p.suffix.lower() in PICTURE_SUFFIXES for p in path.rglob("*")):
        kinds = ", ".join(s[1:] for s in PICTURE_SUFFIXES)
        raise ConfigError(f"{flag} {path} holds no pictures ({kinds})")
    return PictureFolder(path, list_items(path))


def read_picture(path: Path) -> Image.Image:
    """A picture at its full size: upright, RGB, transparency on white; an animation's first frame.

    Raises ValueError with the reason where it is no readable picture or is too large.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} px is more than {MAX_PIXELS // 10**6} megapixels")
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                rgba = upright.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
            if upright.mode.startswith("I"):  # 16 bit grey, which PIL would clip to white
                grey = (np.asarray(upright, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8)
                return Image.fromarray(grey).convert("RGB")
            return upright.convert("RGB")
    except ValueError:
        raise
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except Exception as e:  # PIL's decoders raise whatever they stumble on
        raise ValueError(f"not a readable picture: {' '.join(str(e).split()) or type(e).__name__}") from None


def prepared(paths: Iterable[Path], prepare: Callable[[Image.Image], T], threads: int) -> Iterator[T | ValueError]:
    """`prepare` of each picture in order, decoded ahead in threads; the ValueError in place of an unreadable one."""

    def work(path: Path) -> T | ValueError:
        try:
            return prepare(read_picture(path))
        except ValueError as e:
            return e

    remaining = iter(paths)
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[T | ValueError]] = [pool.submit(work, p) for p in islice(remaining, AHEAD)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(work, p) for p in islice(remaining, 1)]


def content_key(items: list[Item]) -> str:
    """A digest of the pictures' bytes, whatever their names: what cached statistics are filed under."""
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        try:
            with item.path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            digest.update(b"missing")
    return digest.hexdigest()


def write_captions(folder: Path, names: list[str], captions: list[str]) -> None:
    """metadata.jsonl of a folder of pictures, as Hugging Face's ImageFolder has it."""
    rows = [{"file_name": n, "text": c} for n, c in zip(names, captions, strict=True)]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")


def save_pictures(pictures: Tensor, paths: list[Path]) -> None:
    """Pictures [B, 3, H, W] in [-1, 1] as PNG files."""
    for pixels, path in zip(to_uint8(pictures), paths, strict=True):
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
