"""Pictures on disk as evaluation sees them: whole, in RGB; with captions where there are any."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.listing import Item, list_items
from daybreak.data.pictures import PICTURE_SUFFIXES, decode

if TYPE_CHECKING:
    from torch import Tensor

    from daybreak.data.batch import Skipped  # both are needed once there is something to judge, and take seconds

T = TypeVar("T")
WHITE = (255, 255, 255)
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
    """A picture at its full size: upright, in sRGB, transparency on white; an animation's first frame.

    Raises PictureError (a ValueError) with the reason where it is no readable picture or is too large.
    """
    return decode(path, WHITE).image


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


def save_pictures(pictures: Tensor | Sequence[Tensor], paths: list[Path]) -> None:
    """Pictures [B, 3, H, W], or [3, H, W] each, in [-1, 1] as PNG files."""
    from daybreak.data.batch import to_uint8

    for picture, path in zip(pictures, paths, strict=True):
        Image.fromarray(np.ascontiguousarray(to_uint8(picture[None])[0])).save(path)
