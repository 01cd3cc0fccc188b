"""What an operator may set, what every client is held to, and what a load test asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from daybreak.config.bounds import Bounds, Count, Flag
from daybreak.config.fields import Checked
from daybreak.config.quantities import time_in
from daybreak.evaluate.adapter_option import parse_adapter

MAX_PROMPT = 32_000
"""Characters of a prompt, whatever the operator allows; OpenAI's image API has the same limit for its largest model."""
MAX_PICTURES = 10
"""Pictures of one request, as in OpenAI's image API."""
MAX_GUIDANCE = 50.0
MAX_LORA = 10.0
"""Strength of an adapter, either way; 1 is what was trained."""
MAX_LORAS = 16
"""Adapters of one request."""
MAX_QUEUE = 10_000
MAX_BODY_BYTES = 256 * 1024
"""A request's body: the two longest prompts fit with room to spare."""
MAX_UPLOAD_BYTES = 32 * 2**20
"""The body of a request that brings pictures."""
MAX_UPLOADS_BYTES = 8 * MAX_UPLOAD_BYTES
"""Such bodies that are held at once; more are turned away."""
MAX_UPLOAD_PIXELS = 2**25
"""Pixels of a picture that a client sends: 33 million, 100 MB decoded."""
CLIENT_SECONDS = 30.0
"""A client that takes longer to send a request's body, or to take a piece of the answer, is cut off."""


@dataclass(frozen=True)
class ServeSettings(Checked):
    """Limits of a server."""

    batch: Annotated[int, Bounds(least=1, most=256)] = 8
    """Most pictures drawn together."""
    batch_wait: Annotated[float, Bounds(least=0, most=1), time_in("s")] = 0.005
    """How long an idle model waits for companions of a first picture."""
    queue: Annotated[int, Bounds(least=1, most=MAX_QUEUE)] = 64
    """Most pictures that wait for each model; more are turned away with 429."""
    timeout: Annotated[float, Bounds(least=1, most=3600), time_in("s")] = 120.0
    """From a request's arrival to its last picture."""
    processes: Annotated[int | None, Bounds(least=1, most=64)] = None
    """Processes that draw with each model; none: one for each GPU."""
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
    """[NAME=]FILE[:STRENGTH] of an adapter, whoever trained it. Without a name: always, on all models; with that of a
    model: always, on this one; with any other name: where a request asks for NAME in its `loras`."""
    expand: str | None = None
    """Who writes out what a prompt leaves open: scenes (rules), a chat model, or an address of OpenAI's chat API.
    `none` draws prompts as they stand; default: as each model has it."""
    alias: tuple[str, ...] = ()
    """Another name for a model, NAME=MODEL: clients that ask for NAME get MODEL."""
    any_model: bool = False
    """Draw with the first model where a client asks for one that is not there."""
    strict: bool = False
    """Refuse a size that the model does not have, instead of drawing the nearest one."""
    response_format: Literal["b64_json", "url"] = "b64_json"
    """How pictures are answered where a request does not say; some clients read only one of the two."""
    limit_prompt: Annotated[int, Bounds(least=1, most=MAX_PROMPT)] = 4000
    """Most characters of a prompt."""
    blocklist: Path | None = None
    """File of words and phrases, one a line, with which a prompt is refused."""
    safety: str | None = None
    """Command that gets each picture on its standard input and ends with 0 if it may be shown, with 1 if not."""
    access_log: Path | None = None
    """File to which a line of JSON is added for each request, without its prompt."""
    log_prompts: bool = False
    """Add prompts to the lines of --access-log."""
    hosts: Annotated[tuple[str, ...], Flag("--allow-host")] = ("*",)
    """Host names that requests may ask for: a page elsewhere can't reach a loopback server by rebinding its name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.lora:
            parse_adapter(text)


@dataclass(frozen=True)
class LoadSettings(Checked):
    """What is asked of a server."""

    clients: Annotated[int, Bounds(least=1, most=256)] = 8
    """Clients that ask at once, each for its next picture as soon as it has one."""
    requests: Count = 100
    """Requests in all."""
    prompt: str = "a red circle"
    """What to draw; seeds differ."""
    model: str | None = None
    """A model of the server; none: its first."""
    size: str | None = None
    """WIDTHxHEIGHT in px; none: the model's own."""
    steps: Count | None = None
    """Sampler steps; none: the model's own."""
    key: str | None = None
    """API key, where the server asks for one."""
    timeout: Annotated[float, Bounds(least=1, most=3600), time_in("s")] = 300.0
    """Most time for one answer."""
