"""Few-step students: multistep consistency distillation (Heek et al. 2024, arXiv 2403.06807) on the straight path.

The student's sampling times cut [0, 1] into segments. Within each, all points of one of the teacher's trajectories are
to lead to the same point at the segment's lower end, by one Euler step of the student. A finer grid of the teacher's
steps says which points: from x_t the teacher steps to the next grid point, the student itself goes on from there to the
end of the segment, and the velocity that would have led from x_t to that end in one step is the student's target.
Guidance is part of the teacher's steps, so the student, an ordinary model otherwise, draws without it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from daybreak.config import Config
from daybreak.diffusion import flow
from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextTokens
from daybreak.losses.distillation_teacher import DistillationTeacher
from daybreak.model.transformer import Transformer
from daybreak.sampling.guidance import Denoiser
from daybreak.sampling.sampler import FLOOR, heun_step


def grid_times(config: Config) -> Tensor:
    """[steps * substeps + 1] times of the teacher's steps, from 1 to 0; each substeps-th is one of the student's."""
    return sampling_times(config.distill.steps * config.distill.substeps, config.diffusion.shift)


def sample_grid_times(n: int, config: Config, generator: torch.Generator) -> Tensor:
    """[n] times of the grid but its last, each as likely."""
    times = grid_times(config)
    return times[torch.randint(len(times) - 1, (n,), generator=generator)]


@torch.no_grad()
def targets(
    student: Transformer, text: TextTokens, teacher: DistillationTeacher, captions: list[str], x_t: Tensor, t: Tensor,
    config: Config,
) -> Tensor:  # fmt: skip
    """The clean pictures [B, 3, H, W] that the student is to predict at x_t, t [B] (times of the grid).

    text: the student's tokens of the captions.
    """
    return consistent(x_t, t, teacher.denoiser(captions, config), lambda x, s: student(x, s, text).x0, config)


def consistent(x_t: Tensor, t: Tensor, teacher: Denoiser, student: Denoiser, config: Config) -> Tensor:
    """The same for any two denoisers.

    Equation 5 of the paper with the straight path: x_s = teacher's Heun step from t to the next time s; x_end = the
    student's Euler step from s to the segment's end; the velocity (x_end - x_t) / (end - t), as a prediction of x0.
    """
    times = grid_times(config).to(t)
    index = (times[None] - t[:, None]).abs().argmin(1)
    then = times[index + 1]
    end = times[(index // config.distill.substeps + 1) * config.distill.substeps]
    x_s = heun_step(teacher, x_t, t, then)
    v_s = flow.velocity(x_s, student(x_s, then).float(), then, FLOOR)
    x_end = x_s + (end - then).view(-1, 1, 1, 1) * v_s
    v = (x_end - x_t) / (end - t).view(-1, 1, 1, 1)
    return flow.to_x0(x_t, v, t, FLOOR)
