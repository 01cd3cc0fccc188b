"""What `daybreak embed` was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from daybreak.config import TextConfig
from daybreak.config.bounds import Bounds, Count
from daybreak.config.fields import Checked
from daybreak.data.settings import ModelWork

Dtype = Literal["bfloat16", "fp8"]
"""Number formats of features."""


@dataclass(frozen=True)
class EmbedSettings(Checked):
    """Features of captions."""

    model: str
    """Text encoder: its name or folder, as text.pretrained."""
    max_tokens: Annotated[int, Bounds(least=2)] = 256
    """Longer captions are cut; as text.max_tokens."""
    revision: str | None = None
    """Revision of the encoder on the hub; none: the newest."""
    name: str = "text"
    """Name of the features, for --data.embeddings."""
    dtype: Dtype = "bfloat16"
    """Number format of the features; fp8, with a scale a token, takes half the space."""
    batch: Count = 64
    """Captions at once."""
    work: ModelWork = field(default_factory=ModelWork)

    @property
    def text(self) -> TextConfig:
        """The encoder as a run's config names it."""
        return TextConfig(pretrained=self.model, revision=self.revision, max_tokens=self.max_tokens)
