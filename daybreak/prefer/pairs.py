"""Pairs on disk, of which one picture is preferred, and their batches.

FOLDER/pairs.jsonl    a line a pair: caption (what the network is given), prompt (what was asked for), winner and loser
                      (files beside it), and where known scores of both
FOLDER/000000-w.png   the pictures
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.data.batch import to_uint8
from daybreak.data.pictures import open_square
from daybreak.files import whole_folder

FILE = "pairs.jsonl"
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Pair:
    """winner, loser: paths. scores: of both by a judge, or votes for either; none where only the order is known."""

    caption: str
    prompt: str
    winner: Path
    loser: Path
    scores: tuple[float, float] | None = None


@dataclass(frozen=True)
class PairBatch:
    """winners, losers: [B, 3, H, W] in [-1, 1]; captions: B strings."""

    winners: Tensor
    losers: Tensor
    captions: list[str]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def images(self) -> Tensor:
        """The winners, which stand for the data where examples of them are shown."""
        return self.winners

    @property
    def shape(self) -> torch.Size:
        """Of the winners."""
        return self.winners.shape

    def rows(self, rows: slice) -> PairBatch:
        """Some of the pairs."""
        return PairBatch(self.winners[rows], self.losers[rows], self.captions[rows])

    def pinned(self) -> PairBatch:
        """The same with its pictures in pinned memory."""
        return PairBatch(self.winners.pin_memory(), self.losers.pin_memory(), self.captions)


class PairSource:
    """The pairs of some folders as squares of `resolution` px; each once an epoch, in an order of (seed, epoch)."""

    def __init__(self, folders: Sequence[Path], resolution: int, seed: int) -> None:
        self.folders, self.pairs = folders, [pair for folder in folders for pair in read_pairs(folder)]
        self._resolution, self._seed = resolution, seed

    def batch(self, position: int, size: int) -> PairBatch:
        """Samples number `position` to `position + size - 1`."""
        pairs = [self.pairs[self._row(n)] for n in range(position, position + size)]
        winners, losers = (
            torch.stack([self._picture(p.winner if won else p.loser) for p in pairs]) for won in (True, False)
        )
        return PairBatch(winners, losers, [p.caption for p in pairs])

    def some_captions(self, n: int) -> list[str]:
        """The first n captions."""
        return [p.caption for p in self.pairs[:n]]

    def key(self, n: int) -> str:
        """The file of the winner of sample number n."""
        return str(self.pairs[self._row(n)].winner)

    def describe(self) -> str:
        """One line for the log."""
        return f"{', '.join(f.name for f in self.folders)}: {len(self.pairs)} pairs at {self._resolution} px"

    def _row(self, n: int) -> int:
        epoch, place = divmod(n, len(self.pairs))
        return int(np.random.default_rng([self._seed, 21, epoch]).permutation(len(self.pairs))[place])

    def _picture(self, path: Path) -> Tensor:
        return picture_tensor(open_square(path, self._resolution, WHITE))


def picture_tensor(pixels: np.ndarray | Image.Image) -> Tensor:
    """[H, W, 3] uint8 -> [3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 127.5 - 1


def read_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder. ConfigError where there are none."""
    try:
        rows = [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]
        found = [
            Pair(
                row["caption"], row["prompt"], folder / row["winner"], folder / row["loser"],
                None if row["scores"] is None else (row["scores"][0], row["scores"][1]),
            )
            for row in rows
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"{folder / FILE} cannot be read: {' '.join(str(e).split())[:200]}") from None
    return found


@dataclass(frozen=True)
class Drawn:
    """A pair before it is on disk; pictures [3, H, W] in [-1, 1], or the bytes of a file of one."""

    caption: str
    prompt: str
    winner: Tensor | bytes
    loser: Tensor | bytes
    scores: tuple[float, float] | None = None


def write_pairs(folder: Path, pairs: Iterable[Drawn]) -> int:
    """Writes pairs; the folder is whole or absent. Returns how many."""
    lines = []
    with whole_folder(folder) as building:
        for number, pair in enumerate(pairs):
            files = [_save(building / f"{number:06d}-{k}", p) for k, p in (("w", pair.winner), ("l", pair.loser))]
            lines.append(asdict(Pair(pair.caption, pair.prompt, Path(files[0]), Path(files[1]), pair.scores)))
        text = "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines)
        (building / FILE).write_text(text, encoding="utf-8")
    return len(lines)


def _save(stem: Path, picture: Tensor | bytes) -> str:
    """Writes a picture; returns the name of its file."""
    if isinstance(picture, bytes):
        path = stem.with_suffix(".jpg" if picture[:2] == b"\xff\xd8" else ".png")
        path.write_bytes(picture)
    else:
        path = stem.with_suffix(".png")
        Image.fromarray(to_uint8(picture[None])[0]).save(path, compress_level=3)
    return path.name
