"""Vision teachers: frozen networks whose patch features alignment and perceptual losses compare.

Each brings its own resizing and normalisation, written out here, since the image processors that come with the weights
need torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.cpu import functions, kernels
from daybreak.encoders.embedded_teacher import STRIDE, EmbeddedTeacher
from daybreak.encoders.teacher_file import taught_file
from daybreak.hub_models import no_bar_of_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
ATTENTION = "daybreak"
"""The name of `_attention` in transformers."""


@dataclass(frozen=True)
class _Kind:
    """What differs between families: normalisation of [0, 1] pixels, and tokens ahead of the patches."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    class_token: bool


_KINDS = {
    "dinov2": _Kind(IMAGENET_MEAN, IMAGENET_STD, True),
    "dinov2_with_registers": _Kind(IMAGENET_MEAN, IMAGENET_STD, True),
    "dinov3_vit": _Kind(IMAGENET_MEAN, IMAGENET_STD, True),
    "siglip_vision_model": _Kind(HALF, HALF, False),
}


class VisionTeacher(nn.Module):
    """Pictures -> patch features. `patch`: side of a patch, px; `width`: of its features."""

    patch: int
    width: int

    def forward(self, images: Tensor, side: tuple[int, int]) -> Tensor:
        """[B, 3, H, W] in [-1, 1], seen at `side` = (height, width) px -> [B, rows * columns, width].

        `side` divides by the patch. Gradients flow to the pictures; the weights are frozen.
        """
        raise NotImplementedError

    def sizes_for(self, rows: int, columns: int) -> tuple[int, int]:
        """The side at which the teacher's grid is rows x columns."""
        return rows * self.patch, columns * self.patch


class TransformersTeacher(VisionTeacher):
    """DINOv2 (with or without registers), DINOv3 ViT or SigLIP's vision tower through transformers."""

    def __init__(self, network: Any, kind: _Kind) -> None:
        super().__init__()
        from transformers import AttentionInterface

        AttentionInterface.register(ATTENTION, _attention)
        network.set_attn_implementation(ATTENTION)
        self.network = network.eval().requires_grad_(False)
        config = network.config
        self.patch, self.width = config.patch_size, config.hidden_size
        registers = getattr(config, "num_register_tokens", 0) if config.model_type != "dinov2" else 0
        self._skip = int(kind.class_token) + registers
        self._interpolates = config.model_type.startswith("siglip")
        self.register_buffer("mean", torch.tensor(kind.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(kind.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, side: tuple[int, int]) -> Tensor:
        """See `VisionTeacher`."""
        pixels = (resize(images, side) + 1) / 2
        pixels = (pixels - self.mean) / self.std  # type: ignore[operator]
        extra = {"interpolate_pos_encoding": True} if self._interpolates else {}
        tokens = self.network(pixel_values=pixels.to(next(self.network.parameters()).dtype), **extra).last_hidden_state
        return tokens[:, self._skip :]


def _attention(
    _module: nn.Module,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    **_other: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: q, k and v [B, H, N, D] -> [B, N, H, D].

    torch's fused kernel takes twice as long as two products and a softmax on a CPU, there and back.
    """
    if kernels.usable(q) and mask is None:
        scale = q.shape[-1] ** -0.5 if scaling is None else scaling
        return functions.SoftmaxAttention.apply(q * scale, k, v, None).transpose(1, 2), None
    seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
    return seen.transpose(1, 2), None


class TaughtTeacher(VisionTeacher):
    """The embedded teacher, or another of `daybreak teach`, behind the same interface."""

    def __init__(self, network: EmbeddedTeacher) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.patch, self.width = STRIDE, network.width

    def forward(self, images: Tensor, side: tuple[int, int]) -> Tensor:
        """See `VisionTeacher`."""
        return self.network.patch_features(resize(images, side))


def open_teacher(name: str, setting: str) -> VisionTeacher:
    """The teacher that `setting` names: `embedded`, a file of `daybreak teach`, a hub id or a folder.

    Raises ConfigError for an unknown kind of network and where it can't be loaded.
    """
    if (file := taught_file(name)) is not None:
        try:
            return TaughtTeacher(EmbeddedTeacher.load(file))
        except ConfigError as e:
            raise ConfigError(f"{setting}: {e}") from None
    # Here, since the embedded teacher does not need the seconds that it takes.
    from transformers import AutoConfig, AutoModel, SiglipVisionConfig, SiglipVisionModel

    no_bar_of_weights()
    try:
        config = AutoConfig.from_pretrained(name)
        if config.model_type in ("siglip", "siglip2"):  # a pair of towers: the vision one is wanted
            config = SiglipVisionConfig.from_pretrained(name)
        if config.model_type not in _KINDS:
            raise ConfigError(
                f"{setting} is {name}, a {config.model_type}; teachers can be {', '.join(_KINDS)}, embedded, or a file "
                "of `daybreak teach`"
            )
        model = SiglipVisionModel if config.model_type == "siglip_vision_model" else AutoModel
        network = model.from_pretrained(name, config=config, use_safetensors=True)
    except (OSError, ValueError) as e:
        if isinstance(e, ConfigError):
            raise
        raise ConfigError(f"{setting} {name} cannot be loaded: {' '.join(str(e).split())[:200]}") from None
    return TransformersTeacher(network, _KINDS[config.model_type])


def resize(images: Tensor, side: tuple[int, int]) -> Tensor:
    """[B, C, H, W] -> [B, C, *side], bicubic, with antialiasing; the same tensor where nothing changes."""
    if tuple(images.shape[-2:]) == tuple(side):
        return images
    return F.interpolate(images.float(), size=side, mode="bicubic", antialias=True, align_corners=False)
