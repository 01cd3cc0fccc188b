"""What `daybreak loadtest` does."""

from __future__ import annotations

from rich.console import Console

from daybreak.config import ConfigError
from daybreak.serve.loadtest import load
from daybreak.serve.settings import LoadSettings
from daybreak.tables import print_facts, print_json

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
        print_json(console, facts)
    else:
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(result.outcomes.items()))
        times = [
            (f"{name} s", f"{result.percentile(share):.2f}" if result.seconds else "") for name, share in SHARES.items()
        ]
        print_facts(console, [("pictures/s", f"{result.rate:.2f}"), *times, ("answers", answers)])
    if not result.seconds:
        raise ConfigError(f"{url} drew no picture; it answered {result.outcomes}")
