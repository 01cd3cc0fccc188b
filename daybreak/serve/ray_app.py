"""The server on several GPUs and machines, as an application of Ray Serve:

    serve run daybreak.serve.ray_app:build models=/shared/model gpus=1 replicas=1-8 keys=/shared/keys.txt

Each replica is a whole server with a line of its own; Ray spreads requests over them and starts more while pictures
wait. Arguments are the fields of RaySettings, those of `daybreak serve` among them. Pictures come as b64_json: a URL
would lead to whichever replica is asked next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from daybreak.config import ConfigError
from daybreak.config.bounds import Count, NotNegative, Typed
from daybreak.config.fields import from_words
from daybreak.extras import require
from daybreak.serve.settings import ServeSettings


def parse_replicas(text: str, name: str) -> tuple[int, int]:
    """ "1-8" -> (1, 8); ConfigError for anything else."""
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ConfigError(f"{name} is {text!r}; it must be the least and the most of them, such as 1-8")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class RaySettings(ServeSettings):
    """Limits of each replica, and what it takes of the cluster. Raises ConfigError for a value out of its range."""

    models: tuple[str, ...] = ()
    """Folders of models, separated by commas, that every machine can read."""
    gpus: NotNegative = 0.0
    """GPUs of a replica."""
    cpus: NotNegative = 1.0
    """Processor cores of a replica."""
    replicas: Annotated[tuple[Count, Count], Typed(parse_replicas, "LEAST-MOST")] = (1, 1)
    """The least and the most replicas that run at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.models:
            raise ConfigError("models=FOLDER is needed: the folders of the models to serve")


def build(arguments: dict[str, str]) -> Any:
    """A Ray Serve application of any fields of RaySettings. ConfigError for one that is unknown, missing or wrong."""
    ray_serve = require("ray.serve", "ray", "daybreak on Ray Serve")
    settings: RaySettings = from_words(RaySettings, arguments)
    least, most = settings.replicas

    @ray_serve.deployment(
        ray_actor_options={"num_gpus": settings.gpus, "num_cpus": settings.cpus},
        autoscaling_config={
            "min_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": settings.batch,
            "downscale_delay_s": 300,
        },
        max_ongoing_requests=settings.batch + settings.queue,
        graceful_shutdown_timeout_s=settings.timeout + 10,
    )
    @ray_serve.ingress(lambda: _app(settings))
    class Replica:
        """A server; Ray speaks to its app."""

    deployment: Any = Replica
    return deployment.bind()


def _app(settings: RaySettings) -> Any:
    """The app of one replica; its models are opened here, on the machine where the replica runs."""
    from daybreak.serve.app import create_app
    from daybreak.serve.server import ImageServer

    return create_app(ImageServer(list(settings.models), settings))
