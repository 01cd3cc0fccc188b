"""Under which licences a model is given away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from daybreak.config.bounds import Flag


@dataclass(frozen=True)
class Licences:
    """Licence identifiers as the Hugging Face hub spells them; none: not stated."""

    model: Annotated[str | None, Flag("--license")] = None
    """The model's licence for the card, such as apache-2.0."""
    data: Annotated[str | None, Flag("--data-license")] = None
    """The training data's licence for the card."""
