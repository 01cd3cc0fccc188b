"""Shards as training data: sample number n is the same picture and caption each time, on any number of workers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from daybreak.config import ConfigError, TextConfig
from daybreak.data.batch import Batch, Skipped
from daybreak.data.shards.buckets import Bucket, bucket_sizes, nearest_bucket
from daybreak.data.shards.embeddings import EmbeddingReader
from daybreak.data.shards.mixing import Mixing
from daybreak.data.shards.order import Order
from daybreak.data.shards.pixels import BatchMemory, write_pixels
from daybreak.data.shards.reader import RowError, ShardReader

_FLIP, _CAPTION = 1_000_001, 1_000_002
"""Names of random streams beside the sets' own."""


@dataclass(frozen=True)
class _Set:
    """A set of shards in training: its usable rows [N], their order, its captions' features where they are used."""

    reader: ShardReader
    rows: np.ndarray
    order: Order
    embeddings: EmbeddingReader | None


class ShardSource:
    """Pictures from one or several sets of shards.

    `batch` is the number of pictures a step, of all ranks together: blocks of that size have one shape (see `order`).
    Rank r of R takes samples position + r * batch / R onwards. With several sets each block comes from one of them, in
    the ratio of `weights`, or of their rows where it is empty.

    A row that turns out to be damaged is skipped: the next readable row of the order takes its place, it is listed in
    `skipped`, and once more than `bad_share` of all rows are damaged, ConfigError ends the run. `checks` tells each
    picture and its captions (`changes.py`).

    Of a picture with a smaller copy that covers the batch's shape the copy is decoded, which takes less time. Where it
    is damaged the picture itself is, and the copy is listed in `skipped`.

    embeddings: name of the text features to give beside the captions, which must be those of `text`.
    """

    def __init__(
        self,
        places: list[str],
        resolution: int,
        patch: int,
        batch: int,
        seed: int,
        max_ratio: float = 2.0,
        weights: tuple[float, ...] = (),
        flip: bool = False,
        bad_share: float = 0.01,
        cache: Path | None = None,
        cache_bytes: int = 0,
        embeddings: str | None = None,
        text: TextConfig | None = None,
    ) -> None:
        self._features = (embeddings, text or TextConfig())
        if weights and len(weights) != len(places):
            raise ConfigError(f"data.weights has {len(weights)} values for {len(places)} sets of shards")
        self.block, self.seed, self.flip, self.bad_share = batch, seed, flip, bad_share
        self.resolution = resolution
        self.buckets: list[Bucket] = bucket_sizes(resolution, patch, max_ratio)
        self.skipped: list[Skipped] = []
        self._bad: set[tuple[int, int]] = set()
        self._bad_copies: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        self._memory = BatchMemory()
        self.sets = [self._open(i, ShardReader(p, cache, cache_bytes)) for i, p in enumerate(places)]
        self.checks = np.concatenate([s.reader.checks for s in self.sets])
        self.mixing = Mixing(list(weights) or [float(len(s.rows)) for s in self.sets])

    def _open(self, number: int, reader: ShardReader) -> _Set:
        rows = np.flatnonzero(reader.captioned)
        if silent := len(reader) - len(rows):
            self.skipped.append(
                Skipped(reader.place, f"{silent} rows have no caption; daybreak caption can write them")
            )
        if len(rows) == 0:
            raise ConfigError(f"{reader.place}: none of its {len(reader)} rows has a caption; see daybreak caption")
        missing = reader.missing()
        self.skipped += [Skipped(file, reason) for file, reason, _ in missing]
        if (lost := sum(n for _, _, n in missing)) > self.bad_share * len(reader):
            file, reason, _ = missing[0]
            raise ConfigError(
                f"{file}: {reason}; {len(missing)} of {len(reader.index.shards)} shards with {lost} of {len(reader)} "
                f"rows are damaged, more than data.bad_share {self.bad_share:g} allows"
            )
        sizes = np.stack([reader.width[rows], reader.height[rows]], axis=1)
        shapes, shape_of_row = np.unique(sizes, axis=0, return_inverse=True)
        bucket_of_shape = np.array([nearest_bucket(int(w), int(h), self.buckets) for w, h in shapes])
        order = Order(reader.shard[rows], bucket_of_shape[shape_of_row.reshape(-1)], self.block, self.seed, number)
        name, text = self._features
        return _Set(reader, rows, order, None if name is None else EmbeddingReader(reader, name, text))

    def batch(self, position: int, size: int) -> Batch:
        """Samples number `position` to `position + size - 1`: one shape where they lie within one block."""
        number, place = self._locate(position)
        bucket = self.buckets[self.sets[number].order.bucket(place)]
        images, pixels = self._memory.take(size, bucket[1], bucket[0])
        captions, text = [], []
        for i in range(size):
            picture, caption, features = self._sample(position + i, bucket)
            write_pixels(picture, pixels[i])
            captions.append(caption)
            if features is not None:
                text.append(features)
        return Batch(images, captions, text or None)

    def key(self, position: int) -> tuple[int, int]:
        """(set, row) that sample number `position` shows, where nothing is damaged."""
        number, place = self._locate(position)
        s = self.sets[number]
        return number, int(s.rows[s.order.row(place)])

    def _locate(self, position: int) -> tuple[int, int]:
        """(set, position in the set's own order) of sample number `position`."""
        block, within = divmod(position, self.block)
        number, own_block = self.mixing.locate(block)
        return number, own_block * self.block + within

    def _sample(self, n: int, bucket: Bucket) -> tuple[Image.Image, str, Tensor | None]:
        number, place = self._locate(n)
        s = self.sets[number]
        for step in range(len(s.rows)):
            row = int(s.rows[s.order.row(place + step)])
            try:
                picture, (column, which, caption) = self._picture(number, row, bucket), self._caption(s, row, n)
                features = None if s.embeddings is None else s.embeddings.tokens(row, column, which)
            except RowError as e:
                self._count(number, row, e)
                continue
            if self.flip and np.random.default_rng([self.seed, _FLIP, n]).random() < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return picture, caption, features
        raise ConfigError(f"{s.reader.place}: none of its rows can be read")

    def _picture(self, number: int, row: int, bucket: Bucket) -> Image.Image:
        reader = self.sets[number].reader
        try:
            if (copy := reader.copy(row, bucket)) is not None:
                return copy
        except RowError as e:
            with self._lock:
                if (number, row) not in self._bad_copies:
                    self._bad_copies.add((number, row))
                    reason = f"its smaller copy is damaged, and the picture itself decoded in its place: {e}"
                    self.skipped.append(Skipped(reader.name(row), reason))
        return reader.picture(row, bucket)

    def _caption(self, s: _Set, row: int, n: int) -> tuple[str, int, str]:
        """(column, number, caption): one of the row's captions: a column drawn by its weight, then one of its texts.

        Where text features are used, it is one of those that have them.
        """
        captions = s.reader.all_captions(row)
        if not captions:
            raise RowError("no caption")
        names, rng = list(captions), None
        column = names[0]
        if len(names) > 1:
            rng = np.random.default_rng([self.seed, _CAPTION, n])
            weights = np.array([s.reader.index.captions[name] for name in names])
            column = names[rng.choice(len(weights), p=weights / weights.sum())]
        texts = captions[column]
        count = len(texts) if s.embeddings is None else min(len(texts), s.embeddings.count(row, column))
        if count == 1:
            return column, 0, texts[0]
        which = int((rng or np.random.default_rng([self.seed, _CAPTION, n])).integers(count))
        return column, which, texts[which]

    def _count(self, number: int, row: int, error: RowError) -> None:
        reader = self.sets[number].reader
        with self._lock:
            if (number, row) in self._bad:
                return
            self._bad.add((number, row))
            self.skipped.append(Skipped(reader.name(row), str(error)))
            total = sum(len(s.rows) for s in self.sets)
            # One damaged row never ends a run, however small the set.
            if len(self._bad) > max(1, self.bad_share * total):
                raise ConfigError(
                    f"{len(self._bad)} of {total} rows are damaged, more than data.bad_share {self.bad_share:g}; "
                    f"the last: {self.skipped[-1].path}: {error}"
                )

    def some_captions(self, n: int) -> list[str]:
        """About n captions, evenly from all sets."""
        captions: list[str] = []
        for s in self.sets:
            for row in s.rows[: max(1, n // len(self.sets))]:
                try:
                    captions += list(s.reader.captions(int(row)).values())[:1]
                except RowError:
                    continue  # told when training meets it
        return captions

    def describe(self) -> str:
        """One line for the log."""
        sets = ", ".join(f"{s.reader.place} ({len(s.rows)})" for s in self.sets)
        used = {int(b) for s in self.sets for b in np.unique(s.order.buckets)}
        copies = sum(self._covered_by_copies(s) for s in self.sets)
        told = f", {copies} from smaller copies" if copies else ""
        return f"{sets}: captioned pictures at {self.resolution} px in {len(used)} shapes{told}{self._captions_told()}"

    def _covered_by_copies(self, s: _Set) -> int:
        """How many pictures of a set have a smaller copy that covers their bucket."""
        return int((s.reader.copy_size[s.rows] >= np.array(self.buckets)[s.order.buckets]).all(axis=1).sum())

    def _captions_told(self) -> str:
        """How captions are drawn, where there are several columns."""
        columns = {name: weight for s in self.sets for name, weight in s.reader.index.captions.items()}
        if len(columns) < 2:
            return ""
        return ", captions drawn by weight: " + ", ".join(f"{name} {weight:g}" for name, weight in columns.items())
