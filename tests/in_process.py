"""`daybreak` as a user types it, in this process, which has torch loaded already."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from daybreak import cli


def here(words, cwd: Path, monkeypatch, capsys) -> subprocess.CompletedProcess[str]:
    """`daybreak WORDS` in `cwd`: its exit code and what it printed."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["daybreak", *map(str, words)])
    monkeypatch.setattr(cli, "console", Console(width=200))
    with pytest.raises(SystemExit) as end:
        cli.entry()
    output = capsys.readouterr()
    return subprocess.CompletedProcess(words, end.value.code or 0, output.out, output.err)
