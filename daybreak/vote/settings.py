"""What `daybreak compare-blind` was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from daybreak.config.bounds import Bounds, Count, Natural
from daybreak.config.fields import Checked
from daybreak.config.values import some_of
from daybreak.evaluate.adapter_option import parse_adapter

QUESTIONS = {
    "overall": "Which picture is better?",
    "prompt": "Which picture follows the prompt better?",
    "realism": "Which picture looks more real?",
}
"""What can be asked of a pair."""


@dataclass(frozen=True)
class Address(Checked):
    """Where voters find their page."""

    host: str = "127.0.0.1"
    """Address to serve at; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Bounds(least=0, most=65535)] = 8710
    """Port to serve at; 0: any free one."""
    url: str | None = None
    """What links start with, where voters come through a proxy."""


@dataclass(frozen=True)
class BlindSettings(Checked):
    """A comparison. What is none is as the comparison has it that is gone on with."""

    out: Path | None = None
    """Folder of the comparison: a new one, or one to go on with; none: a new one in runs/."""
    results: Path | None = None
    """Tell the results of the comparison in this folder."""
    lora: tuple[str, ...] = ()
    """[NAME=]FILE[:STRENGTH] of an adapter: on the contestant of this name; without one, a contestant more, the only
    model with it."""
    prompts: Path | None = None
    """What runs draw: a prompt a line, or .jsonl with text."""
    questions: Annotated[tuple[str, ...], some_of(QUESTIONS)] = ()
    """What voters are asked: some of overall, prompt and realism; empty: overall."""
    voters: Annotated[int, Bounds(least=1, most=1000)] = 1
    """People who vote; each gets a link."""
    pairs: Count | None = None
    """Most pairs that a voter sees; none: all."""
    seed: Natural | None = None
    """Of order, sides, and the noise that runs draw from; none: 0."""
    address: Address = field(default_factory=Address)

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.lora:
            parse_adapter(text)
