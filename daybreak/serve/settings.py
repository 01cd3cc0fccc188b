"""What an operator may set, and what every client is held to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
class ServeSettings:
    """Limits of a server. Times are in seconds, sizes in px."""

    batch: int = 8
    """Most pictures drawn together."""
    batch_wait: float = 0.005
    """How long an idle model waits for companions of a first picture."""
    queue: int = 64
    """Most pictures that wait for each model; more are turned away with 429."""
    timeout: float = 120.0
    """From a request's arrival to its last picture."""
    max_size: int | None = None
    """Longest side; none: twice the side the model was trained at."""
    max_steps: int = 200
    rate: float | None = None
    """Pictures a minute for each key (without keys: for each address); none: no limit. A key's own rate wins."""
    keys: Path | None = None
    """File of hashed API keys; none: everyone may draw."""
    compile: bool = False
    """torch.compile the networks before the server is ready."""
    bfloat16: bool = False
    """Compute in bfloat16 (weights stay float32)."""
    expand: str | None = None
    """Who writes prompts out, as `sample.expand`; "none": nobody; None: as each model has it."""
    hosts: tuple[str, ...] = ("*",)
    """Host names that requests may ask for: a page elsewhere can't reach a loopback server by rebinding its name."""
