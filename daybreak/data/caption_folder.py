"""`daybreak caption` for a folder of pictures: a .txt beside each, by a vision-language model.

Each file is whole or not there, and stays once it is: killed, the same command goes on with the pictures that have
none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daybreak.config import ConfigError
from daybreak.data.mask_names import masks_another
from daybreak.data.pictures import PictureError, decode
from daybreak.data.places import read_bytes, write_atomically
from daybreak.data.reading.kinds import TEXT_SUFFIXES, suffix
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import make_plan
from daybreak.data.settings import CaptionSettings
from daybreak.data.trigger import triggered

if TYPE_CHECKING:
    import torch

GROUND = (255, 255, 255)
"""Behind transparent pictures, as they are trained by default."""
Left = list[tuple[str, str]]
"""(picture, why it got no caption)"""


@dataclass
class Captioned:
    """written, kept: how many captions, and how many that were there already; left: what got none."""

    written: int = 0
    kept: int = 0
    left: Left = field(default_factory=list)


@dataclass(frozen=True)
class FolderJob:
    """What a worker needs: batches of (picture, file of its caption)."""

    batches: list[list[tuple[str, str]]]
    asked: CaptionSettings

    def open(self, device: torch.device) -> Callable[[int], tuple[int, Left]]:
        """Loads the model; what comes back writes the captions of a batch."""
        from daybreak.data.captioner import Captioner  # here: what is wrong with the command is told before torch loads

        how = self.asked.how
        captioner = Captioner(how.model, how.revision, how.prompt, how.max_tokens, device)

        def describe(number: int) -> tuple[int, Left]:
            left: Left = []
            pictures: dict[str, Any] = {}
            for picture, _ in self.batches[number]:
                try:
                    pictures[picture] = _decoded(picture)
                except (PictureError, OSError) as e:
                    left.append((picture, str(e)))
            texts = captioner.describe(list(pictures.values())) if pictures else []
            said = dict(zip(pictures, texts, strict=True))
            for picture, file in self.batches[number]:
                if text := said.get(picture):
                    word = how.trigger
                    write_atomically(file, ((triggered(text, word) if word else text) + "\n").encode())
                elif picture in said:
                    left.append((picture, "the model said nothing of it"))
            return len(self.batches[number]) - len(left), left

        return describe


def _decoded(place: str) -> Any:
    """The picture of a file or address, upright, RGB. Raises PictureError or OSError."""
    return decode(read_bytes(place), GROUND).image


def caption_folder(place: str, asked: CaptionSettings, progress: Callable[[int, int], None]) -> Captioned:
    """Writes captions beside the pictures of a folder that have none, or beside all where `asked` has `overwrite`.

    Raises ConfigError where there is nothing to describe, or files beside pictures would not be read.
    """
    result = Captioned()
    todo = _listed(place, asked.overwrite, result)
    size = asked.batch
    job = FolderJob([todo[i : i + size] for i in range(0, len(todo), size)], asked)
    from daybreak.data.engines.models import run_on_models

    progress(0, len(todo))
    for written, left in run_on_models(job, list(range(len(job.batches))), asked.work.workers, asked.work.engine):
        result.written += written
        result.left += left
        progress(result.written + len(result.left), len(todo))
    if todo and not result.written:
        raise ConfigError(f"{place}: no caption was written; {result.left[0][0]}: {result.left[0][1]}")
    return result


def _listed(place: str, overwrite: bool, result: Captioned) -> list[tuple[str, str]]:
    """The pictures to describe, each with the file of its caption."""
    plan = make_plan([place], Reading(uncaptioned=True))
    shards = f"daybreak prepare {place} --out SHARDS --uncaptioned, then daybreak caption SHARDS"
    if any(part["kind"] != "items" for part in plan.parts):
        raise ConfigError(f"{place} holds pictures in tars or tables, where no .txt can lie beside them: {shards}")
    items = [item for part in plan.parts for item in part["items"] if not masks_another(item.get("place", ""))]
    if named := [item["key"] for item in items if "captions" in item]:
        raise ConfigError(
            f"{place}: a table names {named[0]} and {len(named) - 1} others, so that a .txt beside them would not be "
            f"read: write the captions there, or {shards}"
        )
    alike = Counter(_stem(item["place"]) for item in items)
    todo = []
    for item in items:
        picture, files = item["place"], item.get("files", [])
        if files and not overwrite:
            result.kept += 1
            continue
        beside = picture if alike[_stem(picture)] > 1 else _stem(picture)
        own = [file for file in files if suffix(file) in TEXT_SUFFIXES]
        todo.append((picture, own[0] if own and alike[_stem(picture)] == 1 else f"{beside}.txt"))
    return todo


def _stem(path: str) -> str:
    return path.rpartition(".")[0]
