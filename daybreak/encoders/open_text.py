"""Opens the text encoder that a config names."""

from __future__ import annotations

from collections.abc import Callable

from daybreak.config import TextConfig
from daybreak.encoders.text import TextEncoder


def open_text_encoder(
    config: TextConfig, captions: Callable[[], list[str]] | None = None, asked_by: str = "text.pretrained"
) -> TextEncoder:  # fmt: skip
    """The text encoder of a new run: the frozen one that `config` names, else the embedded one.

    `captions` gives the captions on which the embedded one's tokenizer is trained. Raises ConfigError where the frozen
    one, which the user named by `asked_by`, can't be loaded.
    """
    if config.pretrained is not None:
        from daybreak.encoders.pretrained_text import PretrainedTextEncoder

        return PretrainedTextEncoder.open(config, asked_by)
    assert captions is not None
    return TextEncoder.create(captions(), config)
