"""Remote shards, kept on the local disk up to a size."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.data.places import filesystem, is_remote, join
from daybreak.files import settle, unfinished


class ShardFiles:
    """Local paths of a set's files. Local sets are read where they lie; remote files are fetched when asked for.

    The files least recently used go once the cache holds more than `limit_bytes`; open ones stay readable.
    Ranks may share a cache folder: a file is fetched under another name and then renamed.
    """

    def __init__(self, place: str, cache: Path | None, limit_bytes: int) -> None:
        self.place = place
        self.limit_bytes = limit_bytes
        self.folder: Path | None = None
        if is_remote(place):
            if cache is None:
                raise ConfigError(
                    f"{place} is remote: say with data.cache in which local folder its shards may be kept"
                )
            self.folder = cache / hashlib.sha256(place.encode()).hexdigest()[:16]
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._evicting = threading.Lock()

    def local(self, name: str) -> Path:
        """The local path of file `name`; OSError where there is none."""
        if self.folder is None:
            return Path(self.place, name)
        path = self.folder / name
        with self._locks[name]:
            if path.exists():
                os.utime(path)
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            building = unfinished(path)
            fs, root = filesystem(join(self.place, name))
            fs.get_file(root, str(building))
            settle(building, path)
        self._evict(keep=path)
        return path

    def _evict(self, keep: Path) -> None:
        assert self.folder is not None
        with self._evicting:
            whole = [p for p in self.folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
            files = [(p.stat().st_mtime, p.stat().st_size, p) for p in whole]
            total = sum(size for _, size, _ in files)
            for _, size, path in sorted(files):
                if total <= self.limit_bytes:
                    return
                if path != keep:
                    path.unlink(missing_ok=True)
                    total -= size
