"""The trigger word: what a model is to call what a set of pictures shows."""

from __future__ import annotations

TRIGGER_MARK = "[trigger]"
"""Where a caption has the trigger word stand."""


def triggered(caption: str, trigger: str) -> str:
    """The caption with the trigger word: in place of TRIGGER_MARK, else in front, unless it has it already."""
    if TRIGGER_MARK in caption:
        return caption.replace(TRIGGER_MARK, trigger)
    return caption if trigger in caption else f"{trigger}, {caption}"
