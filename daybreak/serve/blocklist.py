"""Words with which a prompt is refused."""

from __future__ import annotations

import re
from pathlib import Path

from daybreak.config import ConfigError


class Blocklist:
    """The words and phrases of a file, one a line; empty lines and those that begin with # do not count.

    A phrase is found as whole words, in capitals or not. ConfigError for a file that can't be read or says nothing.
    """

    def __init__(self, file: Path) -> None:
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"--blocklist {file} can't be read: {e}") from None
        phrases = [line for line in lines if line and not line.startswith("#")]
        if not phrases:
            raise ConfigError(f"--blocklist {file} holds no word; it takes one word or phrase a line")
        words = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in phrases)
        self._pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)

    def blocks(self, prompt: str) -> bool:
        """Whether a prompt holds one of them."""
        return self._pattern.search(prompt) is not None
