"""What an operator may set, and what every client is held to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from daybreak.config.bounds import Bounds, Flag
from daybreak.config.fields import Checked
from daybreak.config.quantities import time_in
from daybreak.evaluate.adapter_option import parse_adapter

MAX_PROMPT = 4000
"""Characters of a prompt; OpenAI's image API has the same limit for its smaller models."""
MAX_PICTURES = 10
"""Pictures of one request, as in OpenAI's image API."""
MAX_GUIDANCE = 50.0
MAX_BODY_BYTES = 256 * 1024
"""A request's body: the two longest prompts fit with room to spare."""
CLIENT_SECONDS = 30.0
"""A client that takes longer to send a request's body, or to take a piece of the answer, is cut off."""


@dataclass(frozen=True)
class ServeSettings(Checked):
    """Limits of a server."""

    batch: Annotated[int, Bounds(least=1, most=256)] = 8
    """Most pictures drawn together."""
    batch_wait: Annotated[float, Bounds(least=0, most=1), time_in("s")] = 0.005
    """How long an idle model waits for companions of a first picture."""
    queue: Annotated[int, Bounds(least=1, most=10_000)] = 64
    """Most pictures that wait for each model; more are turned away with 429."""
    timeout: Annotated[float, Bounds(least=1, most=3600), time_in("s")] = 120.0
    """From a request's arrival to its last picture."""
    max_size: Annotated[int | None, Bounds(least=8)] = None
    """Longest side, px; none: twice the side the model was trained at."""
    max_steps: Annotated[int, Bounds(least=1, most=10_000)] = 200
    """Most sampler steps that a request may ask for."""
    rate: Annotated[float | None, Bounds(least=0.01)] = None
    """Pictures a minute for each key (without keys: for each address); none: no limit. A key's own rate wins."""
    keys: Path | None = None
    """File of hashed API keys, which `daybreak key` makes; none: everyone may draw."""
    compile: bool = False
    """Compile the networks with torch.compile before the server is ready."""
    bfloat16: bool = False
    """Compute in bfloat16 (weights stay float32)."""
    lora: tuple[str, ...] = ()
    """[NAME=]FILE[:STRENGTH] of an adapter, whoever trained it, on all models or on the one of this name."""
    expand: str | None = None
    """Who writes out what a prompt leaves open: scenes (rules), a chat model, or an address of OpenAI's chat API.
    `none` draws prompts as they stand; default: as each model has it."""
    hosts: Annotated[tuple[str, ...], Flag("--allow-host")] = ("*",)
    """Host names that requests may ask for: a page elsewhere can't reach a loopback server by rebinding its name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.lora:
            parse_adapter(text)
