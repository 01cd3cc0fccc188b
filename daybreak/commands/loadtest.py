"""What `daybreak loadtest` does."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from daybreak.config import ConfigError
from daybreak.serve.loadtest import load
from daybreak.serve.settings import LoadSettings

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def run_loadtest(console: Console, url: str, settings: LoadSettings, as_json: bool) -> None:
    """`daybreak loadtest`: loads a server and prints what its clients saw. ConfigError where it drew nothing."""
    result = load(url, settings)
    facts = {
        "pictures_a_second": round(result.rate, 3),
        **{f"{name}_seconds": round(result.percentile(share), 4) for name, share in SHARES.items() if result.seconds},
        "outcomes": result.outcomes,
        "seconds": round(result.wall, 3),
    }
    if as_json:
        print(json.dumps(facts))
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("pictures/s", *(f"{name} s" for name in SHARES), "answers"):
            table.add_column(heading)
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(result.outcomes.items()))
        times = [f"{result.percentile(share):.2f}" if result.seconds else "" for share in SHARES.values()]
        table.add_row(f"{result.rate:.2f}", *times, answers)
        console.print(table)
    if not result.seconds:
        raise ConfigError(f"{url} drew no picture; it answered {result.outcomes}")
