"""Prompts written out before they are sampled, for models that learnt from captions which say everything."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import torch

from daybreak.data.scenes import expand as scenes_expand
from daybreak.sampling.rewrite import ChatServer, Rewriter

RULES = "scenes"
"""The embedded world's own rules; every other name is a chat model's."""


class Expander(Protocol):
    """Turns a prompt into a longer one."""

    def rewrite(self, prompt: str) -> str:
        """The longer prompt."""
        ...


def expanded(prompts: Sequence[str], by: str | None, seed: int, numbers: Sequence[int]) -> list[str]:
    """Each prompt as the model gets it; `by` as `sample.expand` says it, None changes nothing.

    By rules, what picture `numbers[i]` leaves open depends on (seed, numbers[i]) alone. A chat model gives the
    likeliest words, so always the same. Raises ConfigError where it can't be had.
    """
    if by is None:
        return list(prompts)
    if by == RULES:
        return scenes_expand.expand(prompts, seed, numbers)
    expander = open_expander(by)
    return [expander.rewrite(prompt) if prompt else prompt for prompt in prompts]


@lru_cache(maxsize=1)
def open_expander(by: str) -> Expander:
    """A chat model by hub id or folder, or behind an address of OpenAI's chat API. ConfigError where it is absent."""
    if by.startswith(("http://", "https://")):
        return ChatServer(by)
    return Rewriter(by, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
