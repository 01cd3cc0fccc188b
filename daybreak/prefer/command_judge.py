"""A user's own program as judge."""

from __future__ import annotations

import math
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak.config import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


class CommandJudge:
    """Runs a program for each batch of pictures; what it prints are the scores.

    Its last argument is a folder of PNGs. The folder's metadata.jsonl, which is also the program's standard input, has
    a line for each, in order: {"file_name": "00000.png", "text": the prompt}. It prints one number a line, as many as
    pictures, and ends with 0.
    """

    prompts = None

    def __init__(self, command: str) -> None:
        self._command = command

    def scores(self, images: Tensor, prompts: Sequence[str]) -> list[float]:
        """See `Judge`."""
        from daybreak.evaluate.pictures import save_pictures, write_captions

        names = [f"{i:05d}.png" for i in range(len(prompts))]
        with tempfile.TemporaryDirectory(prefix="daybreak-judge-") as temporary:
            folder = Path(temporary)
            save_pictures(images.float() / 127.5 - 1, [folder / n for n in names])
            write_captions(folder, names, list(prompts))
            return self._numbers(self._run(folder), len(names))

    def _run(self, folder: Path) -> str:
        listed = (folder / "metadata.jsonl").read_text(encoding="utf-8")
        words = [*shlex.split(self._command), str(folder)]
        try:
            done = subprocess.run(words, input=listed, capture_output=True, text=True, encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise self._error(f"cannot be run: {getattr(e, 'strerror', None) or e}") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise self._error(f"failed with {done.returncode}: {last[:200]}")
        return done.stdout

    def _numbers(self, printed: str, wanted: int) -> list[float]:
        lines = printed.split()
        try:
            numbers = [float(line) for line in lines]
        except ValueError as e:
            raise self._error(f"printed what is no number: {str(e).partition(': ')[2][:80]}") from None
        if len(numbers) != wanted:
            raise self._error(f"printed {len(numbers)} numbers for {wanted} pictures; it should print one a line")
        if wrong := [line for line, number in zip(lines, numbers, strict=True) if not math.isfinite(number)]:
            raise self._error(f"printed {wrong[0]}; a score has to be finite")
        return numbers

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(f"--judge {shlex.quote(self._command)} {reason}")


def program_of(command: str) -> str | None:
    """The program that a command line runs; None where there is none, or its quotes are open."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    return shutil.which(words[0]) if words else None
