"""What the frozen networks make of pictures and captions, computed once and kept in the run folder.

RUN/cache/*.bin hold tensors, memory-mapped; RUN/cache/index.json says their shapes, the captions and the split. A cache
is whole or, where index.json is missing, made anew.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daybreak.data.places import write_atomically
from daybreak.finetune.families import Family, Text
from daybreak.finetune.pictures import Pictures
from daybreak.finetune.settings import FinetuneSettings

MOST_HELD_OUT = 1000
FEW = 20
"""With fewer pictures none is held out."""


@dataclass
class Cache:
    """rows [N, ...]: pictures as `Family.rows` gives them; flipped: the same, mirrored, or None.

    captions: of each row, of several the first; choices: all and their weights, where there are several. texts: `Text`
    of the known captions, by `place` [caption -> row]; empty where the text encoder is trained. training, held_out,
    prior: numbers of rows.
    """

    rows: Tensor
    flipped: Tensor | None
    captions: list[str]
    choices: dict[int, list[tuple[str, float]]]
    texts: Text
    place: dict[str, int]
    training: list[int]
    held_out: list[int]
    prior: list[int]

    def drawn(self, row: int, seed: int, step: int) -> str:
        """The caption of a row at a step: of several one by its weight."""
        choices = self.choices.get(row)
        if choices is None:
            return self.captions[row]
        weights = np.array([weight for _, weight in choices])
        return choices[np.random.default_rng([seed, 11, step, row]).choice(len(choices), p=weights / weights.sum())][0]

    def text(self, captions: list[str], device: torch.device) -> Text:
        """The cached text of known captions."""
        where = [self.place[c] for c in captions]
        return {name: tensor[where].to(device, non_blocking=True) for name, tensor in self.texts.items()}

    def pictures(self, numbers: list[int], flip: Tensor, device: torch.device) -> Tensor:
        """Rows by their numbers [B]; `flip` [B] bool takes the mirrored one."""
        rows = self.rows[numbers]
        if self.flipped is not None:
            rows = torch.where(flip.view(-1, *[1] * (rows.ndim - 1)), self.flipped[numbers], rows)
        return rows.to(device, non_blocking=True)

    def bytes(self) -> int:
        """Of all tensors."""
        tensors = [self.rows, *self.texts.values(), *([] if self.flipped is None else [self.flipped])]
        return sum(t.numel() * t.element_size() for t in tensors)

    def to(self, device: torch.device) -> None:
        """Moves the tensors, where they fit there."""
        self.rows = self.rows.to(device)
        self.flipped = None if self.flipped is None else self.flipped.to(device)
        self.texts = {k: v.to(device) for k, v in self.texts.items()}


class Order:
    """Which rows a step sees: every training picture once an epoch, in an order that follows from seed and epoch.

    With prior pictures half of a batch is of them.
    """

    def __init__(self, training: list[int], prior: list[int], batch: int, seed: int) -> None:
        self._parts = [(training, batch - batch // 2 if prior else batch, seed)]
        if prior:
            self._parts.append((prior, batch // 2, seed + 1))
        self._shuffled = lru_cache(maxsize=4)(self._shuffle)

    @property
    def own(self) -> int:
        """Of a batch, how many are the user's pictures; the others are prior ones."""
        return self._parts[0][1]

    def steps(self, epochs: float) -> int:
        """Steps that see each training picture `epochs` times."""
        return max(1, math.ceil(epochs * len(self._parts[0][0]) / self.own))

    def rows(self, step: int) -> list[int]:
        """Of step number `step`, from 0."""
        return [self._row(p, n) for p, (_, count, _) in enumerate(self._parts) for n in self._numbers(step, count)]

    def _numbers(self, step: int, count: int) -> range:
        return range(step * count, (step + 1) * count)

    def _row(self, part: int, n: int) -> int:
        epoch, place = divmod(n, len(self._parts[part][0]))
        return self._parts[part][0][int(self._shuffled(part, epoch)[place])]

    def _shuffle(self, part: int, epoch: int) -> np.ndarray:
        rows, _, seed = self._parts[part]
        return np.random.default_rng([seed, epoch]).permutation(len(rows))


@dataclass(frozen=True)
class CachedBatch:
    """numbers: of the cache's rows; captions: drawn for this step; weights [B]: of each picture in the whole batch."""

    numbers: list[int]
    captions: list[str]
    weights: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self, rows: slice) -> CachedBatch:
        """Some of the pictures."""
        return CachedBatch(self.numbers[rows], self.captions[rows], self.weights[rows])

    def pinned(self) -> CachedBatch:
        """The pictures lie in the cache."""
        return self


class CachedPictures:
    """A cache as a source of batches.

    The user's pictures and the prior ones each count by their own mean (DreamBooth, arXiv 2208.12242, eq. 2).
    """

    def __init__(self, cache: Cache, order: Order, settings: FinetuneSettings, side: int) -> None:
        self._cache, self._order, self._settings, self._side = cache, order, settings, side

    def batch(self, position: int, size: int) -> CachedBatch:
        """Samples number `position` to `position + size - 1`; they are of one step."""
        s, own = self._settings, self._order.own
        step, first = divmod(position, s.batch)
        numbers = self._order.rows(step)[first : first + size]
        captions = [self._cache.drawn(row, s.seed, step) for row in numbers]
        weights = [1 / own if i < own else s.prior_weight / (s.batch - own) for i in range(first, first + size)]
        return CachedBatch(numbers, captions, torch.tensor(weights))

    def some_captions(self, n: int) -> list[str]:
        """See `Source`."""
        return self._cache.captions[:n]

    def key(self, n: int) -> str:
        """What sample number n is called: the number of its row in RUN/cache, and its caption."""
        step, place = divmod(n, self._settings.batch)
        row = self._order.rows(step)[place]
        return f"{row}: {self._cache.captions[row]}"

    def describe(self) -> str:
        """See `Source`."""
        c = self._cache
        held = f", {len(c.held_out)} held out" if c.held_out else ", none held out"
        prior = f", {len(c.prior)} of the class" if c.prior else ""
        return f"{len(c.training)} pictures{held}{prior} at {self._side} px"


def split(groups: list[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """(training, held out): rows 0..len(groups)-1, of which `share` at random is held out, at most MOST_HELD_OUT.

    Rows of one group show the same and stay on one side, so the share is met as nearly as whole groups allow.
    """
    count = len(groups)
    held = 0 if count < FEW or share == 0 else min(MOST_HELD_OUT, max(1, round(share * count)))
    sizes = Counter(groups)
    chosen: set[int] = set()
    left = held
    for row in np.random.default_rng([seed, 7]).permutation(count).tolist():
        if groups[row] not in chosen and sizes[groups[row]] <= left:
            chosen.add(groups[row])
            left -= sizes[groups[row]]
    return [i for i in range(count) if groups[i] not in chosen], [i for i in range(count) if groups[i] in chosen]


@torch.no_grad()
def build(
    folder: Path, family: Family, pictures: Pictures, prior: Pictures | None, other_captions: list[str],
    held_out: float, seed: int, flip: bool, with_text: bool, dtype: torch.dtype, device: torch.device,
    progress: Callable[[str, int, int], None],
) -> Cache:  # fmt: skip
    """Encodes everything and writes it. `other_captions`: known beside those of the pictures; "" is among them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    training, held = split(pictures.groups, held_out, seed)
    captions = pictures.captions + (prior.captions if prior else [])
    shapes: dict[str, list[Any]] = {}
    for name in ("rows", "flipped") if flip else ("rows",):
        batches = _encoded(family, pictures, prior, name == "flipped", device)
        shapes[name] = _write(
            folder / f"{name}.bin", batches, len(captions), dtype, lambda n: progress("pictures", n, len(captions))
        )
    choices = pictures.choices + (prior.choices if prior else [])
    every = [text for of in choices for text, _ in of]
    known = list(dict.fromkeys(["", *captions, *every, *other_captions])) if with_text else []
    if known:
        parts: dict[str, list[Tensor]] = {}
        writers: dict[str, Any] = {}
        for start in range(0, len(known), 16):
            for name, tensor in family.text(known[start : start + 16]).items():
                parts.setdefault(name, []).append(tensor)
                kind = dtype if tensor.is_floating_point() else tensor.dtype
                if name not in writers:
                    shape = [len(known), *tensor.shape[1:]]
                    writers[name] = _mapped(folder / f"text.{name}.bin", shape, kind, new=True)
                    shapes[f"text.{name}"] = [shape, str(kind)]
                writers[name][start : start + len(tensor)] = tensor.to("cpu", kind)
            progress("captions", min(start + 16, len(known)), len(known))
    index = {
        "captions": captions,
        "choices": {str(i): of for i, of in enumerate(choices) if len(of) > 1},
        "known": known,
        "training": training,
        "held_out": held,
        "prior": list(range(len(pictures), len(captions))),
        "tensors": shapes,
    }
    write_atomically(folder / "index.json", json.dumps(index, ensure_ascii=False).encode())
    found = load(folder)
    assert found is not None
    return found


def load(folder: Path) -> Cache | None:
    """What `build` wrote; None where there is none, or not all of it."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        tensors = {
            name: _mapped(folder / f"{name}.bin", shape, getattr(torch, kind.removeprefix("torch.")), new=False)
            for name, (shape, kind) in index["tensors"].items()
        }
    except (OSError, ValueError, KeyError, RuntimeError):
        return None
    return Cache(
        rows=tensors["rows"],
        flipped=tensors.get("flipped"),
        captions=index["captions"],
        choices={int(i): of for i, of in index.get("choices", {}).items()},
        texts={k.removeprefix("text."): v for k, v in tensors.items() if k.startswith("text.")},
        place={caption: i for i, caption in enumerate(index["known"])},
        training=index["training"],
        held_out=index["held_out"],
        prior=index["prior"],
    )


def to_tensor(pixels: np.ndarray) -> Tensor:
    """[B, S, S, 3] uint8 -> [B, 3, S, S] in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _encoded(
    family: Family, pictures: Pictures, prior: Pictures | None, mirrored: bool, device: torch.device
) -> Iterator[Tensor]:
    for part in (pictures, prior) if prior else (pictures,):
        for start in range(0, len(part), 8):
            images = to_tensor(part.pixels[start : start + 8]).to(device)
            yield family.rows(images.flip(3) if mirrored else images).cpu()


def _write(
    path: Path, batches: Iterator[Tensor], count: int, dtype: torch.dtype, progress: Callable[[int], None]
) -> list[Any]:
    target, done, shape = None, 0, []
    for batch in batches:
        if target is None:
            shape = [count, *batch.shape[1:]]
            target = _mapped(path, shape, dtype, new=True)
        target[done : done + len(batch)] = batch.to(dtype)
        done += len(batch)
        progress(done)
    return [shape, str(dtype)]


def _mapped(path: Path, shape: list[int], dtype: torch.dtype, new: bool) -> Tensor:
    size = math.prod(shape)
    bytes_ = size * torch.empty(0, dtype=dtype).element_size()
    if new:
        with path.open("wb") as file:
            file.truncate(bytes_)
    elif path.stat().st_size != bytes_:
        raise OSError(f"{path} is not whole")
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(shape)
