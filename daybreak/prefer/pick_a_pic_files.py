"""The files of a folder in Pick-a-Pic's layout. Needs no torch: a mistake is told at once."""

from __future__ import annotations

from pathlib import Path

from daybreak.config import ConfigError

COLUMNS = ("jpg_0", "jpg_1", "label_0", "label_1", "caption")
"""The bytes of two pictures; 1 for the better one, 0 for the other, 0.5 for both where neither is; the prompt."""


def files_of(folder: Path) -> list[Path]:
    """The Parquet files. ConfigError where there are none, or one has other columns."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    if not folder.is_dir():
        raise ConfigError(f"--pairs {folder}: no such folder")
    paths = sorted(folder.rglob("*.parquet"))
    if not paths:
        raise ConfigError(f"--pairs {folder} holds no .parquet file")
    for path in paths:
        try:
            there = pq.read_schema(path).names
        except (ArrowException, OSError) as e:
            raise ConfigError(f"--pairs {path} is no readable Parquet file: {' '.join(str(e).split())[:120]}") from None
        if missing := [c for c in COLUMNS if c not in there]:
            raise ConfigError(f"--pairs {path} has no column {missing[0]}; Pick-a-Pic has {', '.join(COLUMNS)}")
    return paths
