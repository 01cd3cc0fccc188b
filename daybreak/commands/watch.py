"""What `daybreak watch` does: a page of runs, served until it is told to stop."""

from __future__ import annotations

import signal
from pathlib import Path

from rich.console import Console

from daybreak.commands.listen import is_loopback, listen
from daybreak.config import ConfigError
from daybreak.extras import require
from daybreak.watch.find import find_runs


def run_watch(console: Console, places: list[Path], host: str, port: int, anonymous: bool) -> None:
    """Binds, and serves until SIGINT or SIGTERM. It reads what runs write, and costs them nothing."""
    local = is_loopback(host)
    if not local and not anonymous:
        raise ConfigError(f"--host {host} lets others in: give --anonymous to let all look at the runs")
    hosts = ["localhost", "127.0.0.1", "[::1]", host] if local else ["*"]
    listener = listen(host, port)
    uvicorn = require("uvicorn", "serve", "daybreak watch")
    require("fastapi", "serve", "daybreak watch")
    from daybreak.watch.app import make_app
    from daybreak.watch.run import settings_of

    runs = find_runs(places)
    if len(runs) == 1:
        for name, folder in runs.items():
            if (trouble := settings_of(folder)[1]) is not None:
                console.print(
                    f"note: {name} is {trouble}; its curves and pictures are shown", markup=False, highlight=False
                )
    listener.listen()  # who opens the page before the server answers waits in place of being refused
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    what = next(iter(runs)) if len(runs) == 1 else f"{len(runs)} runs"
    console.print(f"watching {what} at [bold]{url}[/bold]; Ctrl-C ends it", highlight=False)
    config = uvicorn.Config(make_app(places, hosts, controls=local), log_level="warning", server_header=False)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again once it is down; that is no failure
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
