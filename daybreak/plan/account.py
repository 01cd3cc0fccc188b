"""Parameters and training FLOPs of a recipe, by part and stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from daybreak.compiler import kept_away
from daybreak.config import Config, TextConfig, at_stage
from daybreak.encoders.embedded_teacher import STRIDE, EmbeddedTeacher
from daybreak.encoders.teacher_file import taught_file
from daybreak.encoders.text import TextEncoder, TextTokens
from daybreak.losses.perceptual import VGG16Features
from daybreak.losses.repa import Projector
from daybreak.model.flops import forward_flops
from daybreak.model.routing import sample_visible
from daybreak.model.transformer import Transformer
from daybreak.plan.networks import Cost, build_text_encoder, build_vision, config_of, cost_of, parameters_of


@dataclass(frozen=True)
class Part:
    """One part of a step. parameters: how many numbers; forward and training: FLOPs of matrix products per picture;
    values: the numbers that the other operations of a forward pass write per picture."""

    name: str
    parameters: int
    trained: bool
    forward: int
    training: int
    values: int = 0


@dataclass(frozen=True)
class StagePlan:
    """A stage: its settings, its parts, the width of the text's tokens."""

    config: Config
    parts: list[Part]
    text_width: int

    @property
    def training(self) -> int:
        """FLOPs per training picture."""
        return sum(p.training for p in self.parts)

    @property
    def values(self) -> float:
        """Numbers that other operations than matrix products write per training picture; a backward pass writes as
        many more, for its share of the FLOPs."""
        return sum(p.values * p.training / p.forward for p in self.parts if p.forward)


@lru_cache(maxsize=4)
def account(config: Config, text_tokens: int | None = None) -> tuple[StagePlan, ...]:
    """Each stage's parts. text_tokens: the captions' length; None: text.max_tokens, the longest.

    Backward takes twice the forward pass where weights are trained, once where only a gradient passes through, and the
    transformer's forward once more with model.recompute. What ends within a stage (alignment.until) counts for its
    share of the stage. Raises ConfigError for a network of unknown size.
    """
    length = text_tokens or config.text.max_tokens
    stages = [at_stage(config, i) for i in range(max(1, len(config.stages)))]
    with kept_away():
        parts = [_parts(c, length, aligned) for c, aligned in zip(stages, _aligned(config), strict=True)]
    return tuple(StagePlan(c, *counted) for c, counted in zip(stages, parts, strict=True))


def _aligned(config: Config) -> list[float]:
    """The share of each stage in which features are drawn to the teacher's."""
    found, start = [], 0.0
    for share in [s.share for s in config.stages] or [1.0]:
        found.append(min(1.0, max(0.0, (config.alignment.until - start) / share)))
        start += share
    return found


def _parts(c: Config, length: int, aligned: float) -> tuple[list[Part], int]:
    text_numbers, text_width, text_cost = _text(c.text, length)
    grid = (c.data.resolution // c.model.patch,) * 2
    with torch.device("meta"):
        transformer = Transformer(c.model, text_width, c.routing)
    counts = {"blocks": 0, "text blocks": 0, "embeddings and last layer": 0}
    for name, tensor in transformer.named_parameters():
        counts[_group_of(name)] += tensor.numel()
    factor = 4 if c.model.recompute else 3
    forward = forward_flops(c.model, c.routing, text_width, grid, length)
    written = cost_of(lambda: transformer(*inputs_of(c, text_width, length))).values  # of all its parts together
    parts = [
        Part(name, counts[name], True, flops, (factor if "blocks" in name else 3) * flops,
             round(written * flops / sum(forward.values())))
        for name, flops in forward.items()
        if counts[name]
    ]  # fmt: skip
    frozen = c.text.pretrained is not None
    passes = 1 if frozen else 3
    if c.data.embeddings is None:  # else its features are read beside the shards
        parts.append(
            Part("text encoder", text_numbers, not frozen, text_cost.flops, passes * text_cost.flops, text_cost.values)
        )
    a, p = c.alignment, c.perceptual
    teacher_side: tuple[str, int] | None = None
    if a.weight and aligned:
        network, width, patch = _vision(a.teacher, "alignment.teacher")
        teacher_side = (a.teacher, grid[0] * patch)
        cost = _vision_cost(network, teacher_side[1])
        seen = round(aligned * cost.flops)
        parts.append(Part("alignment teacher", parameters_of(network), False, cost.flops, seen, cost.values))
        with torch.device("meta"):
            projector = Projector(c.model.width, width, a)
        kept = max(1, round(c.routing.keep * grid[0] * grid[1]))
        flops = 2 * kept * sum(q.numel() for q in projector.parameters() if q.ndim > 1)
        parts.append(Part("alignment projector", parameters_of(projector), True, flops, round(3 * aligned * flops)))
    if p.lpips:
        with torch.device("meta"):
            taught = p.lpips_heads is None and taught_file(p.lpips_network) is not None
            network = EmbeddedTeacher() if taught else VGG16Features()
        cost = _vision_cost(network, max(1, round(c.data.resolution * p.lpips_scale)))
        parts.append(Part("LPIPS", parameters_of(network), False, cost.flops, 3 * cost.flops, cost.values))
    if p.dino:
        network, _, patch = _vision(p.dino_teacher, "perceptual.dino_teacher")
        side = max(1, (p.dino_resolution or c.data.resolution) // patch) * patch
        cost = _vision_cost(network, side)
        passes = 2 if teacher_side == (p.dino_teacher, side) else 3  # the true picture's features may be there already
        parts.append(Part("DINO", parameters_of(network), False, cost.flops, passes * cost.flops, cost.values))
    return parts, text_width


def _group_of(parameter: str) -> str:
    """Which of `forward_flops`' parts a parameter of the transformer belongs to."""
    if parameter.startswith("blocks."):
        return "blocks"
    own = parameter.startswith(("text_blocks.", "text_convolutions."))
    return "text blocks" if own else "embeddings and last layer"


def inputs_of(c: Config, text_width: int, length: int) -> tuple[Tensor, Tensor, TextTokens, Tensor | None]:
    """What the transformer is called with for one picture: tensors without values."""
    side = c.data.resolution
    x, t = torch.empty(1, 3, side, side, device="meta"), torch.empty(1, device="meta")
    text = TextTokens(torch.empty(1, length, text_width, device="meta", requires_grad=True),
                      torch.ones(1, length, dtype=torch.bool, device="meta"), padded=False)  # fmt: skip
    visible = sample_visible(1, (side // c.model.patch) ** 2, c.routing.keep, torch.Generator())
    return x, t, text, None if visible is None else visible.to("meta")


@lru_cache(maxsize=8)
def _text(c: TextConfig, length: int) -> tuple[int, int, Cost]:
    """The encoder's parameters, the width of its tokens, and its cost for a caption of `length` tokens.

    Remembered: stages differ in other things, and a large encoder takes a second to count.
    """
    ids = torch.zeros(1, length, dtype=torch.long, device="meta")
    if c.pretrained is None:
        embedded = TextEncoder.create(["a"], replace(c, vocabulary=max(259, c.vocabulary)))
        own_network = embedded.network.to("meta")
        return parameters_of(own_network), embedded.width, cost_of(lambda: own_network(ids, ids == 0))
    config = config_of(c.pretrained, "text.pretrained")
    network: Any = build_text_encoder(config)
    own = getattr(config, "text_config", getattr(config, "encoder", config))
    width = int(getattr(own, "d_model", 0) or own.hidden_size)
    # T5Gemma looks into a mask that it makes itself, which has no values here; it takes a ready one for each kind.
    ready = {"attention_mask": {"full_attention": None, "sliding_attention": None}}
    gemma = network.config.model_type == "t5gemma"
    return parameters_of(network), width, cost_of(lambda: network(input_ids=ids, **(ready if gemma else {})))


@lru_cache(maxsize=8)
def _vision(name: str, setting: str) -> tuple[nn.Module, int, int]:
    """A teacher without weights, the width of its features, its patch; built once, as it is counted once."""
    if taught_file(name) is not None:
        with torch.device("meta"):
            network = EmbeddedTeacher()
        return network, network.width, STRIDE
    config = config_of(name, setting)
    config = getattr(config, "vision_config", config)
    return build_vision(config), config.hidden_size, config.patch_size


@lru_cache(maxsize=8)
def _vision_cost(network: nn.Module, side: int) -> Cost:
    picture = torch.zeros(1, 3, side, side, device="meta")
    return cost_of(lambda: network(picture))
