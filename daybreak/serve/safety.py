"""The operator's own check of pictures, before anybody sees them."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess

from daybreak.config import ConfigError
from daybreak.serve.errors import ApiError

log = logging.getLogger("daybreak.serve")
SECONDS = 60.0
"""A check that takes longer has failed."""
WITHHELD = 1


class SafetyCheck:
    """A command that gets a picture on its standard input and its prompt as DAYBREAK_PROMPT.

    It ends with 0 for a picture that may be shown and with 1 for one that may not. ConfigError where there is no such
    command.
    """

    def __init__(self, command: str) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as e:
            raise ConfigError(f"--safety {command}: {e}") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise ConfigError(f"--safety {command}: there is no such command")

    def check(self, picture: bytes, prompt: str) -> None:
        """ApiError 400 where a picture, a file in the format that was asked for, is withheld; 500 where it failed."""
        try:
            done = subprocess.run(
                self._words, input=picture, env=os.environ | {"DAYBREAK_PROMPT": prompt.replace("\0", "")},
                capture_output=True, timeout=SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as e:
            log.error("the safety check failed: %s", e)
            raise ApiError(500, "the safety check failed; no picture is shown") from None
        if done.returncode == WITHHELD:
            raise ApiError(400, "this server's check withheld the picture", "prompt", "moderation_blocked")
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            log.error("the safety check ended with %d: %s", done.returncode, said[-1] if said else "it said nothing")
            raise ApiError(500, "the safety check failed; no picture is shown")
