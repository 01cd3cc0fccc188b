"""What `daybreak prepare`, `daybreak embed` and `daybreak caption` are told of the work itself, and of captions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from daybreak.config.bounds import Count, Natural, Positive
from daybreak.config.fields import Checked

Engine = Literal["processes", "ray"]
PROMPT = (
    "Describe this picture in two or three sentences: what is to be seen and where, its colours and its style. "
    "Do not begin with words such as 'the image shows'."
)


@dataclass(frozen=True)
class Work(Checked):
    """Who works."""

    workers: Natural | None = None
    """Processes; 0: none beside this one. None: as many as there are cores (on Ray, in the cluster)."""
    engine: Engine = "processes"
    """What runs the work: processes of this machine, or a Ray cluster."""


@dataclass(frozen=True)
class ModelWork(Work):
    """Who works where each worker loads a model."""

    workers: Natural | None = None
    """Each loads the model, and takes a GPU where there are any; 0: this process alone. None: one a
    GPU; without any, this process (on Ray, one a machine)."""
    cache: Path | None = None
    """Local folder for shards at an address."""


@dataclass(frozen=True)
class Captioning(Checked):
    """How captions are written; another value of any field is another set of captions."""

    model: str
    """Vision-language model with a chat template: its hub id or folder."""
    prompt: str = PROMPT
    """What the model is asked."""
    max_tokens: Count = 160
    """Longest caption, tokens."""
    revision: str = "main"
    """Revision of the model on the hub."""
    trigger: str | None = None
    """Word that every caption gets: in place of [trigger], else in front."""

    def told(self) -> dict[str, object]:
        """As JSON holds it, without what was not said."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class CaptionSettings(Checked):
    """Captions for shards, as a set beside those that are there, or for a folder of pictures, as a .txt beside each."""

    how: Captioning
    name: str = "written"
    """Shards: name of the new captions, beside those that are there."""
    weight: Positive = 1.0
    """Shards: how often training takes them, beside the others' weights."""
    overwrite: bool = False
    """Folder: write captions anew where a picture has some."""
    batch: Count = 16
    """Pictures at once."""
    work: ModelWork = field(default_factory=ModelWork)
