"""What `daybreak serve` and `daybreak key` do."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from daybreak.commands.listen import is_loopback, listen
from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import adapters_to_choose
from daybreak.extras import require
from daybreak.phases import phase
from daybreak.serve.find import check_names, find_served
from daybreak.serve.keys import add_key, read_keys
from daybreak.serve.settings import ServeSettings

SHUTDOWN_MARGIN = 10
"""Seconds beyond a request's own limit that a server on its way down waits for answers to be taken."""


def run_serve(
    console: Console, models: list[str], host: str, port: int, settings: ServeSettings, anonymous: bool
) -> None:
    """`daybreak serve`: loads the models, binds, and serves until SIGINT or SIGTERM; then finishes what it accepted."""
    local = is_loopback(host)
    if not local and settings.keys is None and not anonymous:
        raise ConfigError(
            f"--host {host} lets others in: give --keys FILE (daybreak key makes one), or --anonymous to let all draw"
        )
    if local and settings.hosts == ("*",):
        settings = replace(settings, hosts=("localhost", "127.0.0.1", "[::1]", host))
    names = [find_served(spec)[0] for spec in models]
    check_names(names)
    loras = adapters_to_choose(settings.lora, names)
    listener = listen(host, port)
    if settings.keys is not None:
        read_keys(settings.keys)
    uvicorn = require("uvicorn", "serve", "daybreak serve")
    for module in ("fastapi", "prometheus_client", "python_multipart"):
        require(module, "serve", "daybreak serve")
    with phase("loading"):
        from daybreak.serve.app import create_app
        from daybreak.serve.server import ImageServer

    with phase("loading the models"):
        server = ImageServer(models, settings)
    config = uvicorn.Config(
        create_app(server),
        log_level="warning",
        timeout_keep_alive=20,
        timeout_graceful_shutdown=int(settings.timeout) + SHUTDOWN_MARGIN,
        server_header=False,
        limit_concurrency=None,
    )
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    devices = " and ".join(sorted({line.device for line in server.lines.values()}))
    console.print(f"serving {', '.join(server.lines)} on {devices} at [bold]{url}[/bold]", highlight=False)
    if loras:
        console.print(f"adapters that requests may ask for: {', '.join(loras)}", markup=False, highlight=False)
    console.print("the page is at /, the API at /v1, its description at /openapi.json", highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again once it is down; that is no failure
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
    console.print("stopped", highlight=False)


def run_key(console: Console, name: str, file: Path, rate: float | None) -> None:
    """`daybreak key`: makes an API key, shows it once, and keeps its hash."""
    key = add_key(file, name, rate)
    console.print(f"key of {name}, shown only now:", highlight=False)
    print(key)
    console.print(f"its hash is in {file}; serve with --keys {file}", highlight=False)
