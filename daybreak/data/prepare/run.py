"""`daybreak prepare`: plan, parts, shards, index. Killed at any moment, the same command goes on where it stopped.

Everything unfinished lies in a work folder, OUT/.prepare for local shards. Each file in it is complete or absent, and a
function of the sources and settings alone, so a run that was killed ends with the very bytes of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from daybreak.config import ConfigError
from daybreak.data.engines.tasks import Engine, run_tasks
from daybreak.data.places import exists, is_remote, join, write_atomically
from daybreak.data.prepare.assemble import done_file, plan_shards, write_index, write_lists, write_shard
from daybreak.data.prepare.parts import part_files, work_on_part
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.reasons import summary
from daybreak.data.reading.sources import make_plan, settled
from daybreak.data.shards.format import DROPPED, INDEX, NOTES, Index, read_dropped
from daybreak.data.shards.reader import read_index
from daybreak.data.sides import fitting_side, shorter_sides


def _silent(_stage: str, _done: int, _of: int, _pictures: int) -> None:
    """Shows nothing."""


class Progress(Protocol):
    """Is told how far a run is."""

    def __call__(self, _stage: str, _done: int, _of: int, _pictures: int, /) -> None:
        """Done and total parts or shards of a stage, and the pictures of this run so far."""


@dataclass(frozen=True)
class Prepared:
    """What came of it. already: it had been finished before, nothing was done."""

    index: Index
    already: bool


def prepare(
    sources: list[str],
    out: str,
    settings: PrepareSettings,
    workers: int | None,
    engine: Engine = "processes",
    work: Path | None = None,
    progress: Progress = _silent,
) -> Prepared:
    """Brings `sources` into shards in the folder or at the address `out`.

    Raises ConfigError for a source that can't be read, and where `out` holds something else or other shards.
    """
    settings = settled(sources, settings)
    plan = make_plan(sources, settings)
    lines = [json.dumps(part, ensure_ascii=False, sort_keys=True) for part in plan.parts]
    fingerprint = settings.fingerprint(hashlib.sha256("\n".join(lines).encode()).hexdigest())
    work = work or _work_folder(out)
    if exists(join(out, INDEX)):
        return Prepared(_check_finished(out, work, fingerprint), already=True)
    offsets = _begin(out, work, lines, fingerprint)

    todo = [(i, offsets[i], work, settings) for i in range(len(lines)) if not part_files(work, i)[1].exists()]
    if not (work / "assembly.parquet").exists():
        done, pictures = len(lines) - len(todo), 0
        progress("pictures", done, len(lines), 0)
        for kept, dropped in run_tasks(work_on_part, todo, workers, engine):
            done, pictures = done + 1, pictures + kept + dropped
            progress("pictures", done, len(lines), pictures)

    progress("duplicates", 0, 1, 0)
    assembly = plan_shards(work, len(lines), settings)
    dropped_kinds = write_lists(work, out, len(lines), plan)
    if len(assembly) == 0:
        shutil.rmtree(work)
        why = summary([(d["key"], d["reason"]) for d in read_dropped(out)])
        size = fitting_side(shorter_sides(plan, settings), settings.patch, settings.size)
        hint = f"; they are large enough for --size {size}" if size < settings.size else ""
        raise ConfigError(
            f"no picture of {', '.join(sources)} can be used: {why}; all of them: {join(out, DROPPED)}{hint}"
        )
    shards = list(_shards(assembly))
    unfinished = [s for s in range(len(shards)) if not done_file(work, s).exists()]
    done = len(shards) - len(unfinished)
    tasks = [(s, len(shards), shards[s], work, out, settings) for s in unfinished]
    left = {s: {part for part, _ in shards[s]} for s in unfinished}
    for number in run_tasks(write_shard, tasks, workers, engine):
        done += 1
        _remove_used(left.pop(number), left, work)
        progress("shards", done, len(shards), 0)
    _remove_unfinished(out, work)  # by workers of a cluster that died, whose tasks others did
    index = write_index(work, out, len(shards), dropped_kinds, settings, fingerprint)
    shutil.rmtree(work)
    return Prepared(index, already=False)


def _check_finished(out: str, work: Path, fingerprint: str) -> Index:
    index = read_index(out)
    if index.settings.get("fingerprint") != fingerprint:
        raise ConfigError(f"--out {out} holds shards of other sources or settings; choose another folder")
    if (work / "fingerprint").exists():
        shutil.rmtree(work, ignore_errors=True)  # killed between the index and this line
    return index


def _work_folder(out: str) -> Path:
    if not is_remote(out):
        return Path(out, ".prepare")
    name = hashlib.sha256(out.encode()).hexdigest()[:16]
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "daybreak" / "prepare" / name


def _begin(out: str, work: Path, lines: list[str], fingerprint: str) -> list[int]:
    """Writes the plan, or checks that the one that is there is the same. Returns the byte offset of each part in it."""
    stamp = work / "fingerprint"
    if stamp.exists():
        if stamp.read_text() != fingerprint:
            raise ConfigError(
                f"{work} holds an unfinished run with other sources or settings; repeat its command, or delete that "
                "folder to start anew"
            )
    else:
        if not is_remote(out):
            if Path(out).resolve().is_relative_to(work.resolve()):
                raise ConfigError(f"--work {work} holds --out {out}, and is removed at the end: choose another folder")
            # The lists are what a run leaves that found nothing to use.
            if any(p != work and p.name not in (DROPPED, NOTES) for p in _entries("--out", Path(out))):
                raise ConfigError(f"--out {out} is not empty: choose another folder")
        if any(
            not p.name.startswith(("plan.jsonl", ".plan.jsonl.", ".fingerprint.")) for p in _entries("--work", work)
        ):
            raise ConfigError(f"--work {work} is not empty, and is removed at the end: choose another folder")
    try:
        if not stamp.exists():
            write_atomically(str(work / "plan.jsonl"), "".join(f"{line}\n" for line in lines).encode())
            write_atomically(str(stamp), fingerprint.encode())
        for folder in ("parts", "shards"):
            (work / folder).mkdir(exist_ok=True)
    except OSError as e:
        raise ConfigError(f"{work}: the work folder cannot be written: {e.strerror}") from None
    _remove_unfinished(out, work)  # when the last run was killed
    offsets, at = [], 0
    for line in lines:
        offsets.append(at)
        at += len(line.encode()) + 1
    return offsets


def _entries(flag: str, folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it is not there yet."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as e:
        raise ConfigError(f"{flag} {folder} cannot be a folder: {e.strerror}") from None


def _remove_unfinished(out: str, work: Path) -> None:
    for leftover in [*work.rglob(".*.[0-9]*"), *([] if is_remote(out) else Path(out, "data").glob(".shard-*"))]:
        leftover.unlink(missing_ok=True)


def _shards(assembly: pa.Table) -> Iterator[list[tuple[int, list[int]]]]:
    """For each shard, [(part, rows of it)]."""
    rows = zip(*(assembly[c].to_pylist() for c in ("shard", "part", "row")), strict=True)
    for _, of_shard in groupby(rows, key=lambda r: r[0]):
        yield [(part, [r[2] for r in of_part]) for part, of_part in groupby(of_shard, key=lambda r: r[1])]


def _remove_used(parts: set[int], left: dict[int, set[int]], work: Path) -> None:
    """Removes the pictures of parts that no unfinished shard needs, so that they do not lie on disk twice."""
    needed = set().union(*left.values()) if left else set()
    for part in parts - needed:
        part_files(work, part)[0].unlink(missing_ok=True)
