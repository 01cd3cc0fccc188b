"""Checkpoint folders: whole and verified, or not there.

A checkpoint is written as step-N.incomplete. Its manifest holds the size and SHA-256 of every file, read back from the
disk; then the folder gets its name, is verified, and only then older ones go.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from daybreak.files import INCOMPLETE as INCOMPLETE
from daybreak.files import sha256, write_whole

MANIFEST = "manifest.json"
BEST = "best.json"


def folder_of(run: Path, step: int) -> Path:
    """RUN/checkpoints/step-00001200."""
    return run / "checkpoints" / f"step-{step:08d}"


def complete(run: Path) -> list[Path]:
    """The run's finished checkpoints, oldest first; whether they are undamaged, `damage` says."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if p.suffix != INCOMPLETE)


def seal(building: Path) -> None:
    """Writes the manifest, and sees everything onto the disk."""
    sums = {str(p.relative_to(building)): [p.stat().st_size, sha256(p)] for p in _files(building)}
    (building / MANIFEST).write_text(json.dumps({"files": sums}, indent=1))
    for path in [*_files(building), *(p for p in [building, *building.rglob("*")] if p.is_dir())]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def damage(folder: Path, only: tuple[str, ...] = ()) -> str | None:
    """What is wrong with a sealed folder, in a line; None where it is whole. only: look at files that start so."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError):
        return f"{MANIFEST} is damaged"
    for name, (size, checksum) in files.items():
        if only and not name.startswith(only):
            continue
        path = folder / name
        try:
            if path.stat().st_size != size:
                return f"{name} is damaged: it has {path.stat().st_size} of {size} bytes"
            if sha256(path) != checksum:
                return f"{name} is damaged: its checksum is wrong"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as e:
            return f"{name} cannot be read: {e.strerror}"
    return None


def publish(building: Path, keep: int) -> Path:
    """Seals, renames and verifies a folder, then removes all but the `keep` newest and the best. Returns its path.

    Raises OSError where it turns out damaged; then nothing is removed.
    """
    seal(building)
    folder = building.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)
    if reason := damage(folder):
        raise OSError(f"{folder} was written, but {reason}")
    stays = {*(p.name for p in complete(folder.parents[1])[-keep:]), best(folder.parents[1]).get("name")}
    for old in complete(folder.parents[1]):
        if old.name not in stays:
            shutil.rmtree(old)
    return folder


def best(run: Path) -> dict:
    """Name, metric and value of the run's best checkpoint; empty where none has a score."""
    path = run / "checkpoints" / BEST
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def mark_best(run: Path, step: int, metric: str, value: float) -> None:
    """Notes that the checkpoint of `step` is the best by `metric` so far."""
    path = run / "checkpoints" / BEST
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps({"name": folder_of(run, step).name, "metric": metric, "value": value}))


def clear_unfinished(run: Path) -> None:
    """Removes what interrupted writing left."""
    for path in (run / "checkpoints").glob(f"step-*{INCOMPLETE}"):
        shutil.rmtree(path, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
