"""What people keep with a run: a note and whether it is a favourite, in RUN/notes.yaml. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from daybreak.config import ConfigError
from daybreak.files import write_whole
from daybreak.run_folder import check_there

FILE = "notes.yaml"
MOST_LETTERS = 20_000


@dataclass(frozen=True)
class Notes:
    """text: may have several lines."""

    text: str = ""
    favourite: bool = False


def read_notes(run: Path) -> Notes:
    """The notes of a run; empty where it has none. ConfigError where the file holds something else."""
    path = run / FILE
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        notes = Notes(**raw)
        if not isinstance(notes.text, str) or not isinstance(notes.favourite, bool):
            raise TypeError("text is words, favourite is true or false")
        return notes
    except FileNotFoundError:
        return Notes()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as e:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(e).split())}") from None


def write_notes(run: Path, notes: Notes) -> None:
    """Keeps the notes; without any, the file goes. ConfigError for a text that is too long, and a full disk."""
    check_there(run)
    if len(notes.text) > MOST_LETTERS:
        raise ConfigError(f"a note of {len(notes.text):,} letters; it has {MOST_LETTERS:,} at most")
    try:
        if notes == Notes():
            (run / FILE).unlink(missing_ok=True)
        else:
            write_whole(run / FILE, yaml.safe_dump(asdict(notes), sort_keys=False, allow_unicode=True))
    except OSError as e:
        raise ConfigError(f"{run / FILE} cannot be written: {e.strerror}") from None
