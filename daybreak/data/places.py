"""Files here and elsewhere: a path, or an address such as s3://bucket/folder that fsspec understands."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from daybreak.config import ConfigError
from daybreak.files import write_whole

MAX_DOWNLOAD = 256 * 2**20
"""Longest picture fetched from the web, bytes."""
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://")


def is_remote(place: str) -> bool:
    """Whether `place` is an address and no local path."""
    return bool(_SCHEME.match(place))


def filesystem(place: str) -> tuple[Any, str]:
    """The fsspec filesystem of an address, and the path on it. ConfigError where it can't be reached."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(place)
    except ImportError as e:
        raise ConfigError(f"{place}: {e}; pip install 'daybreak[data]' brings the common ones") from None
    except (ValueError, OSError) as e:
        raise ConfigError(f"{place} cannot be opened: {e}") from None


def join(place: str, *names: str) -> str:
    """A place below another."""
    return "/".join([place.rstrip("/"), *names]) if is_remote(place) else str(Path(place, *names))


def open_binary(place: str) -> IO[bytes]:
    """Opens a file for reading; OSError as usual where it can't be."""
    if not is_remote(place):
        return Path(place).open("rb")
    fs, path = filesystem(place)
    file: IO[bytes] = fs.open(path, "rb")
    return file


def exists(place: str) -> bool:
    """Whether there is a file or folder."""
    if not is_remote(place):
        return Path(place).exists()
    fs, path = filesystem(place)
    return bool(fs.exists(path))


def read_bytes(place: str) -> bytes:
    """A file's content; http(s) addresses are tried three times. OSError, in words, where it can't be had."""
    if place.startswith(("http://", "https://")):
        return _download(place)
    try:
        with open_binary(place) as file:
            return file.read()
    except FileNotFoundError:
        raise OSError("no such file") from None
    except OSError as e:
        raise OSError(e.strerror or str(e)) from None


def _download(address: str) -> bytes:
    reason = ""
    for attempt in range(3):
        time.sleep(attempt * 0.5)
        try:
            request = urllib.request.Request(address, headers={"User-Agent": "daybreak"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                data: bytes = answer.read(MAX_DOWNLOAD + 1)
            if len(data) > MAX_DOWNLOAD:
                raise OSError(f"longer than {MAX_DOWNLOAD >> 20} MiB")
            return data
        except urllib.error.HTTPError as e:
            reason = f"the server answers {e.code} {e.reason}"
            if e.code < 500 and e.code != 429:
                break
        except urllib.error.URLError as e:
            reason = f"cannot be fetched: {getattr(e.reason, 'strerror', None) or e.reason}"
        except TimeoutError:
            reason = "the server does not answer in time"
    raise OSError(reason)


def write_atomically(place: str | Path, data: bytes) -> None:
    """Writes a file that is complete or absent, also when killed or without power."""
    if isinstance(place, str) and is_remote(place):  # object stores show a file when it is complete
        fs, address = filesystem(place)
        fs.makedirs(fs._parent(address), exist_ok=True)
        fs.pipe_file(address, data)
        return
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def open_arrow(place: str) -> Any:
    """What pyarrow reads from: a path or an open file."""
    return place if not is_remote(place) else open_binary(place)
