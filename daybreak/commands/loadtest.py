"""What `daybreak loadtest` does."""

from __future__ import annotations

from rich.console import Console

from daybreak.config import ConfigError
from daybreak.serve.loadtest import load
from daybreak.serve.settings import LoadSettings
from daybreak.tables import Fact, by_name, print_json, print_known

PERCENTILES = (50, 95, 99)


def run_loadtest(console: Console, url: str, settings: LoadSettings, as_json: bool) -> None:
    """`daybreak loadtest`: loads a server and prints what its clients saw. ConfigError where it drew nothing."""
    result = load(url, settings)
    facts = [
        Fact("pictures_a_second", round(result.rate, 3), f"{result.rate:.2f}"),
        *(Fact(name, round(s, 4), f"{s:.2f} s") for name, s in result.percentiles(PERCENTILES).items()),
        Fact("outcomes", result.outcomes, ", ".join(f"{k}: {n}" for k, n in sorted(result.outcomes.items()))),
        Fact("seconds", round(result.wall, 3), f"{result.wall:.1f} s"),
    ]
    if as_json:
        print_json(console, by_name(facts))
    else:
        print_known(console, facts)
    if not result.seconds:
        raise ConfigError(f"{url} drew no picture; it answered {result.outcomes}")
