"""What the frozen networks make of pictures and captions, computed once and kept in the run folder.

RUN/cache/*.bin hold tensors, memory-mapped, those of pictures a file for each shape; RUN/cache/index.json says their
sizes, the captions and the split. A cache is whole or, where index.json is missing, made anew.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from daybreak.config import ConfigError
from daybreak.data.places import write_atomically
from daybreak.data.shards.buckets import Bucket
from daybreak.finetune.families import Family, Text
from daybreak.finetune.pictures import Pictures
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.tags import shuffled

MOST_HELD_OUT = 1000
FEW = 20
"""With fewer pictures none is held out."""


@dataclass
class Cache:
    """shapes: of the pictures, (width, height); rows: of each shape its pictures [n, ...], as `Family.rows` gives them;
    flipped: the same, mirrored, or none; weights: how much each place counts, [n, 1, h, w], none where no masks are.

    at: of each picture its shape and its row there, by their numbers; sizes [N, 6]: see `shapes.Sizes`. captions: of
    each picture, of several the first; choices: all and their weights, where there are several. texts: `Text` of the
    known captions, by `place` [caption -> row]; empty where the text encoder is trained. training, held_out, prior:
    numbers of pictures.
    """

    shapes: list[Bucket]
    rows: list[Tensor]
    flipped: list[Tensor]
    weights: list[Tensor]
    at: list[tuple[int, int]]
    sizes: Tensor
    captions: list[str]
    choices: dict[int, list[tuple[str, float]]]
    texts: Text
    place: dict[str, int]
    training: list[int]
    held_out: list[int]
    prior: list[int]

    def drawn(self, row: int, settings: FinetuneSettings, step: int) -> str:
        """The caption of a row at a step: of several one by its weight, its tags in another order where asked for."""
        choices, caption = self.choices.get(row), self.captions[row]
        if choices is not None:
            shares = np.array([weight for _, weight in choices])
            random = np.random.default_rng([settings.seed, 11, step, row])
            caption = choices[random.choice(len(choices), p=shares / shares.sum())][0]
        if settings.shuffle_tags:
            random = np.random.default_rng([settings.seed, 12, step, row])
            return shuffled(caption, settings.keep_tags, settings.tag_separator, settings.trigger, random)
        return caption

    def text(self, captions: list[str], device: torch.device) -> Text:
        """The cached text of known captions."""
        where = [self.place[c] for c in captions]
        return {name: tensor[where].to(device, non_blocking=True) for name, tensor in self.texts.items()}

    def pictures(self, numbers: list[int], flip: Tensor, device: torch.device) -> Tensor:
        """Pictures of one shape by their numbers [B]; `flip` [B] bool takes the mirrored one."""
        shape, places = self.at[numbers[0]][0], [self.at[n][1] for n in numbers]
        rows = self.rows[shape][places]
        if self.flipped:
            rows = torch.where(flip.view(-1, *[1] * (rows.ndim - 1)), self.flipped[shape][places], rows)
        return rows.to(device, non_blocking=True)

    def places(self, numbers: list[int], flip: Tensor, device: torch.device) -> Tensor | None:
        """How much each place of pictures of one shape counts, [B, 1, h, w] float32, mirrored as the pictures are."""
        if not self.weights:
            return None
        shape, places = self.at[numbers[0]][0], [self.at[n][1] for n in numbers]
        weights = self.weights[shape][places].float()
        return torch.where(flip.view(-1, 1, 1, 1), weights.flip(-1), weights).to(device)

    def row(self, number: int) -> Tensor:
        """One picture."""
        shape, place = self.at[number]
        return self.rows[shape][place]

    def weight(self, number: int) -> Tensor:
        """How much each place of one picture counts, [1, h, w], where there are masks."""
        shape, place = self.at[number]
        return self.weights[shape][place]

    def shape_of(self, caption: str) -> Bucket | None:
        """Of the first picture, held out where there is one, that has this caption."""
        return self._shape_of.get(caption)

    @cached_property
    def _shape_of(self) -> dict[str, Bucket]:
        ordered = [*self.held_out, *self.training]
        return {self.captions[n]: self.shapes[self.at[n][0]] for n in reversed(ordered)}

    def bytes(self) -> int:
        """Of all tensors."""
        tensors = [*self.rows, *self.flipped, *self.weights, *self.texts.values()]
        return sum(t.numel() * t.element_size() for t in tensors)

    def to(self, device: torch.device) -> None:
        """Moves the tensors, where they fit there."""
        self.rows, self.flipped, self.weights = (
            [t.to(device) for t in part] for part in (self.rows, self.flipped, self.weights)
        )
        self.texts = {k: v.to(device) for k, v in self.texts.items()}


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
    held_out: float, seed: int, flip: bool, with_text: bool, unmasked: float, dtype: torch.dtype, device: torch.device,
    progress: Callable[[str, int, int], None],
) -> Cache:  # fmt: skip
    """Encodes everything and writes it. `other_captions`: known beside those of the pictures; "" is among them.

    unmasked: least weight of a masked place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    training, held = split(pictures.groups, held_out, seed)
    captions = pictures.captions + (prior.captions if prior else [])
    of = pictures.shapes + (prior.shapes if prior else [])
    buckets = sorted(set(of), key=lambda b: (b[0] / b[1], b))
    members = [[n for n, bucket in enumerate(of) if bucket == shape] for shape in buckets]
    tensors: dict[str, list[Any]] = {}
    done = 0
    for name in ("rows", "flipped") if flip else ("rows",):
        for shape, numbers in enumerate(members):
            batches = _encoded(family, pictures, prior, numbers, name == "flipped", device)
            tensors[f"{name}.{shape}"] = _write(
                folder / f"{name}.{shape}.bin", batches, len(numbers), dtype,
                lambda n, done=done: progress("pictures", done + n, (1 + flip) * len(captions)),
            )  # fmt: skip
            done += len(numbers)
    for shape, numbers in enumerate(members) if len(pictures.masks) else ():
        height, width = tensors[f"rows.{shape}"][0][-2:]
        weights = _weights(pictures, numbers, (height, width), unmasked)
        path = folder / f"weights.{shape}.bin"
        tensors[f"weights.{shape}"] = _write(path, weights, len(numbers), dtype, lambda _: None)
    sizes = torch.tensor(pictures.sizes + (prior.sizes if prior else []))
    tensors["sizes"] = _write(folder / "sizes.bin", iter([sizes]), len(captions), torch.int32, lambda _: None)
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
                    tensors[f"text.{name}"] = [shape, str(kind)]
                writers[name][start : start + len(tensor)] = tensor.to("cpu", kind)
            progress("captions", min(start + 16, len(known)), len(known))
    index = {
        "captions": captions,
        "choices": {str(i): of for i, of in enumerate(choices) if len(of) > 1},
        "known": known,
        "shapes": [list(bucket) for bucket in buckets],
        "members": members,
        "training": training,
        "held_out": held,
        "prior": list(range(len(pictures), len(captions))),
        "tensors": tensors,
    }
    write_atomically(folder / "index.json", json.dumps(index, ensure_ascii=False).encode())
    found = load(folder)
    assert found is not None
    return found


def load(folder: Path) -> Cache | None:
    """What `build` wrote; None where there is none, or not all of it. ConfigError for what earlier versions wrote."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if "members" not in index:
            was = "was begun by an earlier version and cannot be continued; its result can be used"
            raise ConfigError(f"{folder.parent} {was}")
        tensors = {
            name: _mapped(folder / f"{name}.bin", shape, getattr(torch, kind.removeprefix("torch.")), new=False)
            for name, (shape, kind) in index["tensors"].items()
        }
        at = {n: (shape, i) for shape, numbers in enumerate(index["members"]) for i, n in enumerate(numbers)}
        count = len(index["members"])
        rows = [tensors[f"rows.{shape}"] for shape in range(count)]
    except (OSError, ValueError, KeyError, RuntimeError):
        return None
    return Cache(
        shapes=[(w, h) for w, h in index["shapes"]],
        rows=rows,
        flipped=[tensors[f"flipped.{shape}"] for shape in range(count) if f"flipped.{shape}" in tensors],
        weights=[tensors[f"weights.{shape}"] for shape in range(count) if f"weights.{shape}" in tensors],
        at=[at[n] for n in range(len(at))],
        sizes=tensors["sizes"],
        captions=index["captions"],
        choices={int(i): of for i, of in index.get("choices", {}).items()},
        texts={k.removeprefix("text."): v for k, v in tensors.items() if k.startswith("text.")},
        place={caption: i for i, caption in enumerate(index["known"])},
        training=index["training"],
        held_out=index["held_out"],
        prior=index["prior"],
    )


def to_tensor(pixels: np.ndarray) -> Tensor:
    """[B, H, W, 3] uint8 -> [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _encoded(
    family: Family, pictures: Pictures, prior: Pictures | None, numbers: list[int], mirrored: bool,
    device: torch.device,
) -> Iterator[Tensor]:  # fmt: skip
    """The rows of pictures of one shape; numbers beyond the user's pictures are of `prior`."""
    for start in range(0, len(numbers), 8):
        pixels = []
        for n in numbers[start : start + 8]:
            part, i = (pictures, n) if n < len(pictures) else (prior, n - len(pictures))
            assert part is not None
            pixels.append(part.pixels[i])
        images = to_tensor(np.stack(pixels)).to(device)
        yield family.rows(images.flip(3) if mirrored else images).cpu()


def _weights(pictures: Pictures, numbers: list[int], size: tuple[int, int], unmasked: float) -> Iterator[Tensor]:
    """Masks of pictures of one shape as weights [1, 1, h, w]: the mean of the pixels that a place covers."""
    for n in numbers:
        if n < len(pictures):
            mask = torch.from_numpy(np.array(pictures.masks[n])).float()[None, None] / 255
            yield functional.adaptive_avg_pool2d(mask, size).clamp(min=unmasked)
        else:
            yield torch.ones(1, 1, *size)


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
