"""What `daybreak launch` was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from daybreak.config.bounds import Count
from daybreak.config.fields import Checked


@dataclass(frozen=True)
class LaunchSettings(Checked):
    """Where the run starts, and on how much."""

    to: Literal["local", "slurm", "sky", "kubernetes"] = "local"
    """What starts the run: torchrun on this machine, SLURM, SkyPilot, or Kubeflow's training operator."""
    nodes: Count = 1
    """Machines that train together."""
    gpus: Count = 8
    """GPUs of a node."""
    image: str | None = None
    """Container image that holds daybreak, which Kubernetes needs."""
    accelerator: str = "H200"
    """SkyPilot's name of the GPU."""
    file: Path | None = None
    """Script to write; none: the run's name and the kind, in this folder."""
    submit: bool = False
    """Start it too."""
