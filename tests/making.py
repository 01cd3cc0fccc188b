"""Makes real picture files for the tests of data."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from daybreak.data.prepare.run import Prepared, prepare
from daybreak.data.prepare.settings import PrepareSettings

SMALL = {"size": 64, "patch": 8}


def picture(seed: int, size=(96, 96)) -> Image.Image:
    """Noise on several scales, as photographs have it: each seed is another picture, and none is blank."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12):
        field = Image.fromarray(rng.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(field.resize(size, Image.Resampling.BICUBIC)) * (1.5 / cells)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def encoded(seed: int, size=(96, 96), kind="JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, kind, **options)
    return buffer.getvalue()


def captioned_folder(folder: Path, n: int, size=(96, 96)) -> Path:
    """n pictures and metadata.jsonl."""
    folder.mkdir(parents=True)
    lines = []
    for i in range(n):
        (folder / f"{i:04d}.jpg").write_bytes(encoded(i, size(i) if callable(size) else size))
        lines.append(json.dumps({"file_name": f"{i:04d}.jpg", "text": f"picture number {i}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def prepared(source, out, workers=0, **settings) -> Prepared:
    """`prepare` in this process, at 64 px."""
    sources = source if isinstance(source, list) else [source]
    return prepare([str(s) for s in sources], str(out), PrepareSettings(**{**SMALL, **settings}), workers)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
