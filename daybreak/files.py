"""Files and folders that are there whole, or not at all. Needs no torch."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from daybreak.config import ConfigError

INCOMPLETE = ".incomplete"
"""Ends the name of a folder that is being written."""


def check_empty(out: Path, hint: str = "choose another --out") -> None:
    """ConfigError, which ends with `hint`, where something is in the way of a new folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty: {hint}")


def check_safetensors(path: Path) -> None:
    """ConfigError where a .safetensors file is cut short or damaged, by its header, which says how long it is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):
            pass
    except (OSError, SafetensorError) as e:
        reason = " ".join(str(e).split())[:120]
        raise ConfigError(f"{path} is damaged or cut short, get it anew: {reason}") from None


def make_folder(out: Path, what: str = "the folder") -> None:
    """Makes a folder and those above it. Raises ConfigError, which begins with `what`, where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"{what} {out} cannot be made: {e.strerror}") from None


def write_whole(path: Path, data: bytes | str) -> None:
    """Writes a file that is complete or absent, also when killed or without power. Text is UTF-8."""
    building = unfinished(path)
    try:
        building.write_bytes(data.encode() if isinstance(data, str) else data)
        settle(building, path)
    except OSError:
        building.unlink(missing_ok=True)
        raise


def unfinished(path: Path) -> Path:
    """The name under which this process writes a file until it is finished; machines may share the folder."""
    return path.with_name(f".{path.name}.{os.getpid()}-{os.uname().nodename}")


def settle(building: Path, path: Path) -> None:
    """Gives a finished file its name, its content being on disk before."""
    with building.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(building, path)


@contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """A folder to write into that takes the place of `folder` once all is written."""
    building = folder.with_name(folder.name + INCOMPLETE)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    yield building
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)


@contextmanager
def new_folder(out: Path) -> Generator[Path]:
    """A folder to write into that becomes `out` once all is written; nothing is left of it where that fails.

    Raises ConfigError where `out` is taken, or cannot be written.
    """
    check_empty(out)
    building = out.with_name(out.name + INCOMPLETE)
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


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """What is kept between commands: $DAYBREAK_CACHE, else ~/.cache/daybreak."""
    return Path(os.environ.get("DAYBREAK_CACHE") or Path.home() / ".cache" / "daybreak")
