"""Files that metrics need from elsewhere: fetched once, checked, kept; with a way to bring them by hand."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daybreak import files
from daybreak.config import ConfigError


@dataclass(frozen=True)
class KnownFile:
    """A file by its content. `flag` is how a user names a copy of it."""

    name: str
    url: str
    sha256: str
    megabytes: float
    purpose: str
    flag: str


INCEPTION = KnownFile(
    name="inception-2015-12-05.pt",
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    megabytes=95.6,
    purpose="the standard Inception network of FID, KID and IS",
    flag="--weights inception=FILE",
)
GENEVAL_PROMPTS = KnownFile(
    name="evaluation_metadata.jsonl",
    url="https://raw.githubusercontent.com/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl",
    sha256="5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
    megabytes=0.1,
    purpose="the 553 prompts of GenEval",
    flag="--geneval-prompts FILE",
)


def fetch(known: KnownFile, tell: Callable[[str], None]) -> Path:
    """The path of `known`, downloaded where it is not at hand. `tell` is called before a download starts.

    Raises ConfigError where it can't be had or its content is not the known one.
    """
    path = files.cache_folder() / known.name
    if not path.is_file():
        tell(f"downloading {known.name} ({known.megabytes:.1f} MB, {known.purpose}) from {known.url} to {path}")
        _download(known, path)
    verify(known, path)
    return path


def is_here(known: KnownFile) -> bool:
    """Whether `fetch` would download nothing."""
    return (files.cache_folder() / known.name).is_file()


def verify(known: KnownFile, path: Path) -> None:
    """Raises ConfigError where the file at `path` is not `known`, byte by byte."""
    digest = sha256(path)
    if digest != known.sha256:
        raise ConfigError(
            f"{path} is not {known.purpose}: its sha256 is {digest}, it should be {known.sha256}; remove it, or bring "
            f"the file from {known.url}"
        )


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal; ConfigError where it can't be read."""
    try:
        return files.sha256(path)
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror}") from None


def _download(known: KnownFile, path: Path) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(known.url, timeout=30) as response, partial.open("wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
        verify(known, partial)
        partial.replace(path)
    except (OSError, ValueError) as e:
        if isinstance(e, ConfigError):
            raise
        raise ConfigError(
            f"{known.name} ({known.megabytes:.1f} MB, {known.purpose}) cannot be downloaded from {known.url}: "
            f"{getattr(e, 'reason', e)}; bring it by hand to {path}, or name a copy with {known.flag}"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
