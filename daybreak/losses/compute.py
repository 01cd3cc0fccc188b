"""The training loss as named terms, each a pure function of the prediction, and their weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from daybreak.config import Config
from daybreak.diffusion import flow
from daybreak.encoders.vision import VisionTeacher
from daybreak.losses.feature_distance import feature_distance
from daybreak.losses.grounding import GroundingTarget, grounding_loss
from daybreak.losses.objective import Objective
from daybreak.losses.perceptual import scaled
from daybreak.losses.repa import alignment_loss, teacher_target
from daybreak.model.transformer import Prediction


def weights(config: Config, progress: float) -> dict[str, float]:
    """Weight of each term at a point of the run, `progress` in [0, 1]; terms that do not count are absent.

    A student learns from its teacher alone (losses/distillation.py).
    """
    if config.distill.teacher is not None:
        return {"distillation": 1.0}
    aligned = config.alignment.weight if progress < config.alignment.until else 0.0
    all_terms = {
        "velocity": 1.0,
        "contrastive": config.diffusion.contrastive,
        "alignment": aligned,
        "grounding": config.grounding.weight,
        "lpips": config.perceptual.lpips,
        "dino": config.perceptual.dino,
    }
    return {name: weight for name, weight in all_terms.items() if weight}


def compute(
    prediction: Prediction, x0: Tensor, x_t: Tensor, t: Tensor, objective: Objective | None, config: Config,
    wanted: set[str], places: GroundingTarget | None = None, taught: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """The wanted terms, as scalars: means over the batch, unweighted. x0 and x_t [B, 3, H, W], t [B].

    `objective` may be None where no other network is asked; `places`: where words belong, for the grounding; `taught`:
    what a student is to predict in place of x0, for the distillation.
    """
    floor, terms = config.diffusion.floor, {}
    if "velocity" in wanted:
        terms["velocity"] = velocity_loss(prediction.x0, x0, x_t, t, floor).mean()
    if "distillation" in wanted:
        assert taught is not None
        terms["distillation"] = velocity_loss(prediction.x0, taught, x_t, t, floor).mean()
    if "contrastive" in wanted:
        terms["contrastive"] = contrastive_loss(prediction.x0, x0, x_t, t, floor).mean()
    if "grounding" in wanted:
        assert prediction.grounding is not None and places is not None
        terms["grounding"] = grounding_loss(prediction.grounding, places)
    if objective is None:
        return terms
    seen: dict[tuple[int, tuple[int, int]], Tensor] = {}  # what a teacher saw of x0, shared by terms that ask it alike

    def features_of_x0(teacher: VisionTeacher, side: tuple[int, int]) -> Tensor:
        key = (id(teacher), side)
        if key not in seen:
            with torch.no_grad():
                seen[key] = teacher(x0, side)
        return seen[key]

    if "alignment" in wanted:
        teacher, projector = objective.teacher, objective.projector
        assert teacher is not None and projector is not None and prediction.features is not None
        rows, columns = (side // config.model.patch for side in x0.shape[-2:])
        target = teacher_target(features_of_x0(teacher, teacher.sizes_for(rows, columns)), config.alignment)
        projected = projector(prediction.features, rows, columns)
        terms["alignment"] = alignment_loss(projected, target, prediction.visible).mean()
    if "lpips" in wanted:
        assert objective.lpips is not None
        scale = config.perceptual.lpips_scale
        distance = objective.lpips(scaled(prediction.x0.float(), scale), scaled(x0, scale))
        terms["lpips"] = _mean_up_to(distance, t, config.perceptual.t_max)
    if "dino" in wanted:
        teacher = objective.dino
        assert teacher is not None
        side = objective.dino_side(x0.shape[-2:], config)
        distance = feature_distance(teacher(prediction.x0.float(), side), features_of_x0(teacher, side))
        terms["dino"] = _mean_up_to(distance, t, config.perceptual.t_max)
    return terms


def velocity_loss(predicted_x0: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, floor: float) -> Tensor:
    """Mean squared error in velocity space, per picture: [B, 3, H, W] -> [B].

    x-prediction with v-loss ("Back to Basics", arXiv 2511.13720, table 1): ||v(x0_hat) - v(x0)||^2, which weighs the
    pixel error by 1 / max(t, floor)^2. The reference velocity takes the same floor, so a perfect x0 has loss 0.
    """
    v = flow.velocity(x_t, predicted_x0.float(), t, floor)
    target = flow.velocity(x_t, x0, t, floor)
    return F.mse_loss(v, target, reduction="none").mean(dim=(1, 2, 3))


def contrastive_loss(predicted_x0: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, floor: float) -> Tensor:
    """Minus the squared distance to the velocity of the batch's next picture, per picture: [B].

    Contrastive flow matching (arXiv 2506.05350, eq. 6): ||v_hat - v||^2 - lambda ||v_hat - v'||^2, of which this is
    the second part without lambda.
    """
    v = flow.velocity(x_t, predicted_x0.float(), t, floor)
    other = flow.velocity(x_t, x0, t, floor).roll(1, 0)
    return -F.mse_loss(v, other, reduction="none").mean(dim=(1, 2, 3))


def _mean_up_to(distance: Tensor, t: Tensor, t_max: float) -> Tensor:
    """Mean over the pictures whose noise level is at most t_max; 0 where there are none."""
    counts = (t <= t_max).to(distance.dtype)
    return (distance * counts).sum() / counts.sum().clamp(min=1)
