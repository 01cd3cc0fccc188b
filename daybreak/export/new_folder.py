"""A folder that is there whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.run_folder import check_empty


@contextmanager
def new_folder(out: Path) -> Generator[Path]:
    """A folder to write into that becomes `out` once all is written; nothing is left of it where that fails.

    Raises ConfigError where `out` is taken, or cannot be written.
    """
    check_empty(out)
    building = out.with_name(out.name + ".incomplete")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.parent.mkdir(parents=True, exist_ok=True)
        yield building
        if out.exists():
            out.rmdir()
        os.replace(building, out)
    except OSError as e:
        raise ConfigError(f"--out {out} cannot be written: {e.strerror or e}") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
