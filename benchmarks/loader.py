"""How fast 512 px training batches come out of 1024 px JPEG shards, against bare decoding and other loaders.

    python benchmarks/loader.py [--pictures 256] [--rounds 5] [--work DIR]

Bare decoding is Pillow alone on bytes that lie in memory, to an array: the ceiling of every loader built on it. All
contestants decode JPEG at half size (`draft`) and give batches of 16 as uint8 [16, 512, 512, 4], of which the training
device makes floats; bare decoding stops at the array. The other two are also timed as they come, decoding whole with
Pillow, halving, and stacking arrays [512, 512, 3]. One thread; CPU time of the process, since other work may share
the machine; the median of rounds that take turns. `datasets` reads the same Parquet shards as a stream, `webdataset` a
tar of the same files.

"with copies" is daybreak on a set that `prepare --copy-size 512` made: it decodes the smaller copy that lies beside
each picture. The other loaders read the files that they are given, of 1024 px; given a second set of 512 px, they would
decode as little. What copies cost is printed, too: how much more disk, and how much more time in preparing.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from daybreak.data.prepare.run import prepare
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.shards.pixels import BatchMemory, write_pixels
from daybreak.data.shards.reader import ShardReader, decode_to_bucket, read_index
from daybreak.data.shards.source import ShardSource

BATCH, SIDE = 16, 512
COPIES = f"daybreak, with copies at {SIDE} px"


def photo(seed: int) -> Image.Image:
    """Noise on all scales, falling with frequency as in photographs: about 300 KB as JPEG q92 of 1024 px."""
    rng = np.random.default_rng(seed)
    total = np.zeros((1024, 1024, 3), dtype=np.float32)
    for cells in (3, 6, 12, 24, 48, 96, 192, 384):
        field = Image.fromarray(rng.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(field.resize((1024, 1024), Image.Resampling.BICUBIC), dtype=np.float32) / math.sqrt(cells)
    total = 128 + (total - total.mean()) / total.std() * 60
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Data:
    """Shards without and with smaller copies, CPU seconds of preparing them, a tar of the pictures, their bytes."""

    shards: Path
    with_copies: Path
    seconds: tuple[float, float]
    tar: Path
    files: list[bytes]

    @property
    def costs(self) -> str:
        """What the copies take, beside a set without them."""
        without, size = (sum(s.bytes for s in read_index(str(p)).shards) for p in (self.shards, self.with_copies))
        before, after = (1000 * seconds / len(self.files) for seconds in self.seconds)
        return (
            f"copies: {(size - without) / len(self.files) / 1000:.0f} KB each, {size / without - 1:.0%} more disk; "
            f"preparing a picture, whose file is kept, took {after:.1f} ms in place of {before:.1f}"
        )


def prepared(folder: Path, out: Path, copy_size: int | None) -> float:
    """Makes a set in this process; CPU seconds."""
    began = time.process_time()
    prepare([str(folder)], str(out), PrepareSettings(shard_mb=32, copy_size=copy_size), workers=0)
    return time.process_time() - began


def make_data(work: Path, n: int) -> Data:
    folder, shards, with_copies, tar_path = work / "folder", work / "shards", work / "with-copies", work / "set.tar"
    folder.mkdir()
    for i in range(n):
        photo(i).save(folder / f"{i:05d}.jpg", quality=92)
        (folder / f"{i:05d}.txt").write_text(f"picture number {i}")
    prepared(folder, work / "warm", None)
    seconds = prepared(folder, shards, None), prepared(folder, with_copies, SIDE)
    reader = ShardReader(str(shards))
    files = [reader.picture_bytes(i) for i in range(n)]
    with tarfile.open(tar_path, "w") as tar:
        for i, data in enumerate(files):
            for suffix, content in (("jpg", data), ("txt", f"picture number {i}".encode())):
                info = tarfile.TarInfo(f"{i:05d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return Data(shards, with_copies, seconds, tar_path, files)


MEMORY = BatchMemory()


def to_tensor(pictures: list[Image.Image]) -> torch.Tensor:
    """[B, H, W, 4] uint8, in the way that our own loader does it, so that only the loaders differ."""
    images, pixels = MEMORY.take(len(pictures), SIDE, SIDE)
    for picture, out in zip(pictures, pixels, strict=True):
        write_pixels(picture, out)
    return images


def batched(pictures: Iterator[bytes]) -> int:
    """Decodes and batches what a foreign loader yields."""
    waiting: list[Image.Image] = []
    seen = 0
    for data in pictures:
        waiting.append(decode_to_bucket(data, (SIDE, SIDE)))
        if len(waiting) == BATCH:
            seen += len(to_tensor(waiting))
            waiting = []
    return seen + len(waiting)


def stacked(pictures: Iterator[Image.Image]) -> int:
    """Scales and batches what a foreign loader has decoded itself."""
    waiting: list[np.ndarray] = []
    seen = 0
    for picture in pictures:
        waiting.append(np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)))
        if len(waiting) == BATCH:
            seen += len(torch.from_numpy(np.stack(waiting)))
            waiting = []
    return seen + len(waiting)


def bare(files: list[bytes]) -> int:
    for data in files:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (SIDE, SIDE))
        np.asarray(image)
    return len(files)


def ours(source: ShardSource, n: int) -> int:
    return sum(len(source.batch(p, BATCH)) for p in range(0, n // BATCH * BATCH, BATCH))


def contestants(data: Data) -> dict[str, Callable[[], int]]:
    files = data.files
    without, copies = (ShardSource([str(p)], SIDE, 32, BATCH, seed=0) for p in (data.shards, data.with_copies))
    found: dict[str, Callable[[], int]] = {
        "bare Pillow decode": lambda: bare(files),
        "the same, to batches": lambda: batched(iter(files)),
        "daybreak": lambda: ours(without, len(files)),
        COPIES: lambda: ours(copies, len(files)),
    }
    try:
        import datasets

        stream = datasets.load_dataset(str(data.shards), split="train", streaming=True)
        undecoded = stream.cast_column("image", datasets.Image(decode=False))
        shuffled = undecoded.shuffle(seed=0, buffer_size=100)
        found["datasets, streaming"] = lambda: batched(row["image"]["bytes"] for row in shuffled)
        decoded = stream.shuffle(seed=0, buffer_size=100)
        found["datasets, as it comes"] = lambda: stacked(row["image"] for row in decoded)
    except ImportError:
        print("datasets is not installed; left out")
    try:
        import webdataset

        pipeline = webdataset.WebDataset(str(data.tar), shardshuffle=False).shuffle(100)
        found["webdataset"] = lambda: batched(sample["jpg"] for sample in pipeline)
        plain = webdataset.WebDataset(str(data.tar), shardshuffle=False).shuffle(100).decode("pilrgb")
        found["webdataset, as it comes"] = lambda: stacked(sample["jpg"] for sample in plain)
    except ImportError:
        print("webdataset is not installed; left out")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        data = make_data(Path(work), options.pictures)
        files, runs = data.files, contestants(data)
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for round_number in range(options.rounds + 1):
            for name, run in runs.items():
                began = time.process_time()
                seen = run()
                if round_number:  # the first warms up
                    rates[name].append(seen / (time.process_time() - began))
        base = statistics.median(rates["bare Pillow decode"])
        plain, copies = (statistics.median(rates[name]) for name in ("daybreak", COPIES))
        kb = sum(map(len, files)) / len(files) / 1000
        print(f"{len(files)} pictures of 1024 px, {kb:.0f} KB each; to {SIDE} px; {options.rounds} rounds")
        for name, values in rates.items():
            rate = statistics.median(values)
            print(
                f"{name:31s} {rate:7.1f} images/s a core ({min(values):.1f}..{max(values):.1f}) {rate / base:5.2f} of "
                f"bare Pillow; daybreak is {plain / rate:.2f}x as fast, with copies {copies / rate:.2f}x"
            )
        print(data.costs)
        print(f"300 images/s at {SIDE} px take {math.ceil(300 / plain)} cores of this kind")


if __name__ == "__main__":
    main()
