"""Under which licences a model is given away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Licences:
    """Licence identifiers as the Hugging Face hub spells them, such as apache-2.0; None: not stated."""

    model: str | None = None
    data: str | None = None
