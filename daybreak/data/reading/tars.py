"""WebDataset tars: a sample a row."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import IO

from daybreak.config import ConfigError
from daybreak.data.places import is_remote, open_binary
from daybreak.data.reading.columns import json_captions
from daybreak.data.reading.row import RawRow
from daybreak.data.reading.samples import Choice, Sample, choose, find_samples
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import Part
from daybreak.data.reading.text import TextError, captions_in, decode_text

DAMAGE = (OSError, tarfile.TarError, EOFError, zlib.error)
"""What is raised where a tar, or what packs it, is damaged."""
_END = tarfile.EOFHeaderError  # type: ignore[attr-defined]


class _Member(tarfile.TarInfo):
    """Tells an archive's end from a file that stops: `tarfile` takes both for the end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile)
        except _END:
            tarfile.has_end = True  # type: ignore[attr-defined]
            raise


def read_tar(part: Part, reading: Reading) -> Iterator[RawRow]:
    """The samples of a tar, in order, and a row for each file that is in none.

    The names are read before, since what is key and what is extension can be told from all of them only. Raises
    TarError, OSError or EOFError behind the last row that can be read, and before it ConfigError where the files of a
    sample lie apart: a reader of tars as a stream would make two samples of them.
    """
    with _local(part["file"]) as raw:
        names, strays, error = _names(raw)
        for name, why in strays:
            yield RawRow(f"{part['name']}/{name}", problem=why, kind="hidden")
        ends: dict[int, tuple[Sample, Choice]] = {}
        wanted: set[int] = set()
        torn: list[Sample] = []
        for sample in find_samples(names):
            if (apart := sample.apart) is not None:
                raise ConfigError(
                    f"{part['file']}: the files of sample {sample.key} do not lie beside each other "
                    f"({' and '.join(apart)}), as WebDataset needs: write the tar anew, as with tar --sort=name"
                )
            choice = choose(sample, reading.image_key, list(reading.captions))
            last = sample.members[-1][0] == len(names) - 1
            if error is not None and last and (choice.picture is None or not choice.captions):
                torn.append(sample)  # what it lacks may have stood behind
                continue
            ends[sample.members[-1][0]] = sample, choice
            wanted |= {n for n in (choice.picture, *(n for n, _ in choice.captions)) if n is not None}
        contents: dict[int, bytes] = {}
        raw.seek(0)
        try:
            for number, member, tar in _files(raw):
                if number in wanted:
                    file = tar.extractfile(member)
                    assert file is not None  # it is a plain file
                    contents[number] = file.read()
                if number in ends:
                    yield from _rows(part["name"], *ends.pop(number), contents, reading)
                    contents = {}
        except DAMAGE as e:
            error = error or e
        for sample in (*(sample for sample, _ in ends.values()), *torn):
            yield RawRow(f"{part['name']}/{sample.key}", problem="the tar stops within this sample")
        if error is not None:
            raise error


def _rows(tar: str, sample: Sample, choice: Choice, contents: dict[int, bytes], reading: Reading) -> Iterator[RawRow]:
    row = RawRow(f"{tar}/{sample.key}", problem=choice.problem)
    if choice.picture is not None:
        row.data = contents[choice.picture]
    try:
        for number, extension in choice.captions:
            _add_caption(row, extension, contents[number], reading)
    except TextError as e:
        if row.problem is None:
            row.problem, row.kind = str(e), "unreadable caption"
    yield row
    for name, why in choice.left:
        yield RawRow(f"{tar}/{name}", problem=why, kind="ignored")


def _add_caption(row: RawRow, extension: str, content: bytes, reading: Reading) -> None:
    """Adds what a member says, where no member before it said anything of that column."""
    text, note = decode_text(content)
    row.notes += [f"{extension}: {note}"] if note else []
    if extension.rpartition(".")[2] == "json":
        found = json_captions(text, reading) or {}
    else:
        column = extension.partition(".")[0] if reading.captions else "caption"
        texts = captions_in(text, reading.lines)
        found = {column: texts} if texts else {}
    row.captions = {**found, **row.captions}


@contextmanager
def _local(place: str) -> Generator[IO[bytes]]:
    """The tar as a file that can be read twice: one that lies elsewhere is fetched once."""
    with open_binary(place) as file:
        if not is_remote(place):
            yield file
            return
        with tempfile.TemporaryFile(prefix="daybreak-") as copy:
            shutil.copyfileobj(file, copy, 2**20)
            copy.seek(0)
            yield copy


def _open(raw: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=raw, mode="r:", tarinfo=_Member)
    except tarfile.ReadError:
        raw.seek(0)
        return tarfile.open(fileobj=raw, mode="r|*", tarinfo=_Member)


def _names(raw: IO[bytes]) -> tuple[list[str], list[tuple[str, str]], Exception | None]:
    """(names of the files, what is none of them and why, what is wrong with the tar)."""
    names: list[str] = []
    strays: list[tuple[str, str]] = []
    try:
        with _open(raw) as tar:
            for member in tar:
                if (why := _stray(member)) is None:
                    names.append(_name(member))
                elif why:
                    strays.append((_name(member), why))
            if not hasattr(tar, "has_end"):
                return names, strays, tarfile.ReadError("it stops before the archive's end")
    except DAMAGE as e:
        return names, strays, e
    return names, strays, None


def _files(raw: IO[bytes]) -> Iterator[tuple[int, tarfile.TarInfo, tarfile.TarFile]]:
    with _open(raw) as tar:
        number = 0
        for member in tar:
            if _stray(member) is None:
                yield number, member, tar
                number += 1


def _name(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./")


def _stray(member: tarfile.TarInfo) -> str | None:
    """Why a member is no file of a sample; empty for a folder, None for one that is."""
    if member.isdir():
        return ""
    if not member.isfile():
        return "a link in the tar, or another thing that is no file"
    hidden = any(p.startswith(".") and p not in (".", "..") for p in _name(member).split("/"))
    return "hidden: its name begins with a dot" if hidden else None
