"""The networks that a run's losses need: frozen teachers, and the one trained part, alignment's projector."""

from __future__ import annotations

import torch
from torch import nn

from daybreak.config import Config, ConfigError, at_stage
from daybreak.encoders.vision import VisionTeacher, open_teacher
from daybreak.losses.distillation_teacher import DistillationTeacher
from daybreak.losses.perceptual import LPIPS, open_lpips
from daybreak.losses.repa import Projector


class Objective(nn.Module):
    """What no stage of the run uses is None."""

    def __init__(
        self,
        teacher: VisionTeacher | None,
        projector: Projector | None,
        lpips: LPIPS | None,
        dino: VisionTeacher | None,
        source: DistillationTeacher | None = None,
    ) -> None:
        super().__init__()
        self.teacher, self.projector, self.lpips, self.dino, self.source = teacher, projector, lpips, dino, source

    @classmethod
    def create(cls, config: Config) -> Objective:
        """Loads what any stage of `config` needs. Raises ConfigError where a network can't be had or does not fit."""
        stages = [at_stage(config, i) for i in range(max(1, len(config.stages)))]
        a, p = config.alignment, config.perceptual
        teacher = projector = lpips = dino = None
        if any(s.alignment.weight for s in stages):
            teacher = open_teacher(a.teacher, "alignment.teacher")
            projector = Projector(config.model.width, teacher.width, a)
            for stage in stages:
                if stage.alignment.weight:
                    _check_grid(teacher, stage)
        if any(s.perceptual.lpips for s in stages):
            lpips = open_lpips(p.lpips_network, p.lpips_heads)
        if any(s.perceptual.dino for s in stages):
            shared = teacher is not None and p.dino_teacher == a.teacher
            dino = teacher if shared else open_teacher(p.dino_teacher, "perceptual.dino_teacher")
            assert dino is not None
            if p.dino_resolution is not None and p.dino_resolution % dino.patch:
                raise ConfigError(
                    f"perceptual.dino_resolution {p.dino_resolution} does not divide by the teacher's patch of "
                    f"{dino.patch} px; {max(1, p.dino_resolution // dino.patch) * dino.patch} does"
                )
        source = None if config.distill.teacher is None else DistillationTeacher.open(config)
        return cls(teacher, projector, lpips, dino, source)

    def dino_side(self, size: torch.Size, config: Config) -> tuple[int, int]:
        """(height, width) at which the perceptual teacher sees pictures of `size`, in whole patches."""
        assert self.dino is not None
        patch, wanted = self.dino.patch, config.perceptual.dino_resolution
        sides = [wanted or s for s in size]
        height, width = (max(1, s // patch) * patch for s in sides)
        return height, width

    def trained(self) -> dict[str, nn.Module]:
        """The parts that are trained, by name."""
        return {"projector": self.projector} if self.projector is not None else {}

    def to_frozen_dtype(self, dtype: torch.dtype) -> None:
        """Holds the frozen networks in `dtype`; the projector stays float32."""
        for network in (self.teacher, self.dino, self.lpips, self.source):
            if network is not None:
                network.to(dtype)


def _check_grid(teacher: VisionTeacher, stage: Config) -> None:
    """A set resolution must give the teacher the model's grid."""
    wanted, grid = stage.alignment.resolution, stage.data.resolution // stage.model.patch
    if wanted is not None and wanted != grid * teacher.patch:
        raise ConfigError(
            f"alignment.resolution {wanted} gives the teacher a grid of {wanted / teacher.patch:g} patches of "
            f"{teacher.patch} px, the model has {grid} at {stage.data.resolution} px; "
            f"set {grid * teacher.patch}, or none"
        )
