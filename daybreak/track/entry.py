"""An entry: entry.json, with all its figures and the digest of every file beside it. Needs no torch.

The signature is sha256 over every file and over entry.json itself: whoever changes a byte changes a digest. Who made an
entry is told by the commit that adds it to the repository; keys of its own would need another library for what git has.
"""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import daybreak
from daybreak.config import ConfigError
from daybreak.config.files import plain
from daybreak.files import sha256, write_whole
from daybreak.track import curve
from daybreak.track import plan as plans
from daybreak.track.plan import Plan
from daybreak.track.rules import Target, Track, find_track

FILE = "entry.json"
PICTURES = "pictures.png"
"""What the last average of seed 0 draws."""
LEFT_OUT = ("lock", "logs")
"""In an entry's folder, but no part of it."""
NEEDED = ("track", "recipe", "rules", "date", "code", "seeds", "figures", "files", "digest")


def make(
    plan: Plan, folder: Path, runs: list[tuple[dict[str, Any], list[dict[str, Any]]]], data_digest: str | None
) -> dict[str, Any]:  # fmt: skip
    """Writes FOLDER/entry.json and returns what it holds. runs: the clock and the scored rows of each seed."""
    track = plan.of_track
    seeds = [
        {"seed": seed, "clock": {k: v for k, v in clock.items() if k != "snapshots"}, "rows": rows,
         "figures": {t.name: run_figure(track, t, clock, rows) for t in track.targets}}
        for seed, (clock, rows) in enumerate(runs)
    ]  # fmt: skip
    entry: dict[str, Any] = {
        "track": track.name,
        "rules": track.digest,
        "recipe": plan.recipe,
        "settings": [list(pair) for pair in plan.settings],
        "changed": plan.changed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "daybreak": daybreak.__version__,
        "code": code_digest(),
        "machine": machine(),
        "hidden": plan.hidden,
        "peer": plan.peer,
        "teach": plan.teach,
        "data": data_digest,
        "config": plain(plan.config(0)),
        "seeds": seeds,
        "figures": {t.name: summary([s["figures"][t.name] for s in seeds]) for t in track.targets},
        "files": {str(p.relative_to(folder)): sha256(p) for p in files_of(folder)},
    }
    if data_digest is not None:
        entry["config"]["data"]["folder"] = None  # a path of this machine; the digest tells which pictures
    entry["digest"] = own_digest(entry)
    write_whole(folder / FILE, json.dumps(entry, indent=1) + "\n")
    return entry


def run_figure(track: Track, target: Target, clock: dict[str, Any], rows: list[dict[str, Any]]) -> float | None:
    """What `target` compares of one run."""
    return curve.figure(curve.points(rows, target.measure, clock, track), target, track)


def summary(figures: list[float | None]) -> dict[str, Any]:
    """mean and spread (standard deviation) over the seeds that reached a target, how many did, and of how many.

    The mean is None unless all seeds reached it: those that did not would be left out of a mean of the others.
    """
    there = [f for f in figures if f is not None]
    whole = len(there) == len(figures)
    return {
        "mean": statistics.fmean(there) if whole else None,
        "spread": statistics.stdev(there) if whole and len(there) > 1 else None,
        "reached": len(there),
        "of": len(figures),
    }


def read(path: Path) -> dict[str, Any]:
    """An entry.json, or a copy of one; ConfigError where it is none, was changed, or is of other rules."""
    try:
        entry = json.loads(path.read_text())
        missing = [key for key in NEEDED if key not in entry]
    except (OSError, ValueError, TypeError) as e:
        raise ConfigError(f"{path} is no entry: {e}") from None
    if not isinstance(entry, dict) or missing:
        raise ConfigError(f"{path} is no entry: it lacks {', '.join(missing) or 'everything'}")
    if own_digest(entry) != entry["digest"]:
        raise ConfigError(f"{path} was changed after it was written: its digest is another")
    if find_track(entry["track"]).digest != entry["rules"]:
        raise ConfigError(f"{path} was made by other rules of {entry['track']} than this version has")
    return entry


def check(folder: Path) -> dict[str, Any]:
    """The entry of a folder; ConfigError, which names the file, where one was changed, added or lost since.

    Its figures are worked out again from the clocks and scores, and have to be the same.
    """
    if not (folder / FILE).is_file():
        raise ConfigError(f"{folder} is no entry: it holds no {FILE}")
    entry = read(folder / FILE)
    there = {str(p.relative_to(folder)): p for p in files_of(folder)}
    for name, digest in entry["files"].items():
        if name not in there:
            raise ConfigError(f"{folder / name} is missing: it was there when the entry was written")
        if sha256(there[name]) != digest:
            raise ConfigError(f"{folder / name} was changed after the entry was written")
    if added := sorted(there.keys() - entry["files"].keys()):
        raise ConfigError(f"{folder / added[0]} is no part of the entry: it came after it was written")
    track = plans.load(folder).of_track
    for found in entry["seeds"]:
        for target in track.targets:
            if run_figure(track, target, found["clock"], found["rows"]) != found["figures"][target.name]:
                raise ConfigError(f"{folder / FILE}: {target.name} of seed {found['seed']} is not what its scores say")
    return entry


def files_of(folder: Path) -> list[Path]:
    """Every file of an entry but entry.json, in order."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] not in (*LEFT_OUT, FILE))
    return sorted(p for p in found if not p.name.startswith("."))


def own_digest(entry: dict[str, Any]) -> str:
    """sha256 over what an entry holds but its own digest."""
    rest = {key: value for key, value in entry.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def code_digest() -> str:
    """sha256 over the sources of this package: which code an entry ran."""
    root, total = Path(daybreak.__file__).parent, hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".c")):
        total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 over the names and contents of all files of a folder: which pictures an entry had."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder)}\0{sha256(path)}\0".encode())
    return total.hexdigest()


def machine() -> str:
    """The CPU's name, or what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
