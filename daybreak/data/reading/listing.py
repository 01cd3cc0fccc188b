"""All files of a source, and which of them are not looked at."""

from __future__ import annotations

import glob
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.data.places import filesystem, is_remote


@dataclass
class Listing:
    """Files by their path below `root` -> bytes, sorted; left: (path, why) of those that are not looked at."""

    root: str
    files: dict[str, int]
    left: list[tuple[str, str]] = field(default_factory=list)


def folded(name: str) -> str:
    """By this names are compared where their Unicode form or their case differs, as some file systems do."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def list_source(source: str) -> Listing:
    """The files of a file, a folder (with those behind links) or a pattern with *. ConfigError where there are none."""
    left: list[tuple[str, str]] = []
    if is_remote(source):
        root, sizes = _remote(source)
    elif "*" in source and not Path(source).exists():
        root = source[: source.index("*")].rpartition("/")[0] or ("/" if source.startswith("/") else ".")
        matches = [Path(p) for p in glob.glob(source, recursive=True)]  # noqa: PTH207 - the pattern may be absolute
        sizes = {p.relative_to(root).as_posix(): p.stat().st_size for p in matches if p.is_file()}
    elif Path(source).is_file():
        root, sizes = str(Path(source).parent), {Path(source).name: Path(source).stat().st_size}
    elif Path(source).is_dir():
        root, sizes = source, {}
        _walk(Path(source), "", (), sizes, left)
    else:
        raise ConfigError(f"{source}: no such file or folder")
    for name in list(sizes):
        if any(part.startswith(".") for part in name.split("/")):
            hidden_folder = any(part.startswith(".") for part in name.split("/")[:-1])
            left.append((name, "in a hidden folder" if hidden_folder else "hidden: its name begins with a dot"))
            del sizes[name]
    if not sizes:
        more = f" but {left[0][0]} ({left[0][1]})" if left else ""
        raise ConfigError(f"{source}: there is nothing in it{more}")
    return Listing(root, dict(sorted(sizes.items())), sorted(left))


def _walk(
    folder: Path, below: str, above: tuple[Path, ...], sizes: dict[str, int], left: list[tuple[str, str]]
) -> None:
    """Adds the files of a folder; a link that leads back to a folder above is left out."""
    real = folder.resolve()
    if real in above:
        left.append((below.rstrip("/"), "a link that leads back to a folder above it"))
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as e:
        left.append((below.rstrip("/") or str(folder), f"the folder cannot be read: {e.strerror}"))
        return
    for entry in entries:
        name = below + entry.name
        if entry.is_dir():
            _walk(Path(entry.path), f"{name}/", (*above, real), sizes, left)
        elif entry.is_file():
            sizes[name] = entry.stat().st_size
        else:
            left.append((name, "a link to nothing" if entry.is_symlink() else "no file"))


def _remote(source: str) -> tuple[str, dict[str, int]]:
    fs, path = filesystem(source)
    try:
        if "*" in path:
            found = {p: i for p in fs.glob(path) if (i := fs.info(p))["type"] == "file"}
            root = path[: path.index("*")].rpartition("/")[0]
        elif fs.isfile(path):
            found, root = {path: fs.info(path)}, path.rpartition("/")[0]
        else:
            found, root = fs.find(path, detail=True), path.rstrip("/")
    except (OSError, ValueError) as e:
        raise ConfigError(f"{source} cannot be read: {' '.join(str(e).split())}") from None
    sizes = {p.removeprefix(root).lstrip("/"): int(i.get("size") or 0) for p, i in found.items()}
    return str(fs.unstrip_protocol(root)), sizes
