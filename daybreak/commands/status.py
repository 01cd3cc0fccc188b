"""`daybreak status`: where a run stands."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from daybreak.config import ConfigError
from daybreak.history import facts
from daybreak.history.read import read
from daybreak.tables import Fact, print_json, print_known

WATCH_SECONDS = 2.0


def show_status(console: Console, run: Path, watch: bool = False, as_json: bool = False) -> None:
    """Prints what the run folder tells; ConfigError where it is none.

    watch: again every other second, in the same place, while the run trains.
    """
    if watch and (as_json or not console.is_terminal):
        raise ConfigError("--watch draws in a terminal, and not beside --json: leave it out")
    told = _facts(run)
    if as_json:
        print_json(console, told)
        return
    while True:
        if watch:
            console.clear()
        print_known(console, told[1:], str(run))
        if not watch or told[2].value != "training":
            return
        time.sleep(WATCH_SECONDS)
        told = _facts(run)


def _facts(run: Path) -> list[Fact]:
    h = read(run)
    return [*facts.identity(h), *facts.standing(h), *facts.course(h), *facts.expense(h), *facts.stored(h)]
