"""The server on several GPUs and machines, as an application of Ray Serve:

    serve run daybreak.serve.ray_app:build models=/shared/model gpus=1 replicas=1-8 keys=/shared/keys.txt

Each replica is a whole server with a line of its own; Ray spreads requests over them and starts more while pictures
wait. `models` may name several folders, separated by commas, that every machine can read. Pictures come as b64_json: a
URL would lead to whichever replica is asked next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daybreak.config import ConfigError
from daybreak.extras import require
from daybreak.serve.settings import ServeSettings

DEFAULTS = {"batch": "8", "queue": "64", "timeout": "120", "gpus": "0", "cpus": "1", "replicas": "1-1", "keys": ""}


def build(arguments: dict[str, str]) -> Any:
    """A Ray Serve application. ConfigError for an argument that is unknown, missing or of the wrong kind."""
    ray_serve = require("ray.serve", "ray", "daybreak on Ray Serve")
    unknown = arguments.keys() - DEFAULTS.keys() - {"models"}
    if unknown or not arguments.get("models"):
        raise ConfigError(
            f"models=FOLDER is needed, beside {', '.join(DEFAULTS)}; unknown: {', '.join(sorted(unknown)) or 'none'}"
        )
    a = DEFAULTS | arguments
    try:
        least, most = (int(n) for n in a["replicas"].split("-"))
        settings = ServeSettings(
            batch=int(a["batch"]),
            queue=int(a["queue"]),
            timeout=float(a["timeout"]),
            keys=Path(a["keys"]) if a["keys"] else None,
        )
        resources = {"num_gpus": float(a["gpus"]), "num_cpus": float(a["cpus"])}
    except ValueError as e:
        raise ConfigError(f"an argument is no number: {e}; replicas looks like 1-8") from None
    folders = a["models"].split(",")

    @ray_serve.deployment(
        ray_actor_options=resources,
        autoscaling_config={
            "min_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": settings.batch,
            "downscale_delay_s": 300,
        },
        max_ongoing_requests=settings.batch + settings.queue,
        graceful_shutdown_timeout_s=settings.timeout + 10,
    )
    @ray_serve.ingress(lambda: _app(folders, settings))
    class Replica:
        """A server; Ray speaks to its app."""

    deployment: Any = Replica
    return deployment.bind()


def _app(folders: list[str], settings: ServeSettings) -> Any:
    """The app of one replica; its models are opened here, on the machine where the replica runs."""
    from daybreak.parallel import pick_device
    from daybreak.serve.app import create_app
    from daybreak.serve.open import open_served
    from daybreak.serve.server import ImageServer

    device = pick_device()
    return create_app(ImageServer([open_served(f, settings, device) for f in folders], settings))
