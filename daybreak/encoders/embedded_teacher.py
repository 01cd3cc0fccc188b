"""The embedded teacher: a small convolutional network that knows `scenes`, with its weights in this package.

It learned without labels (encoders/teach.py, `daybreak teach`) and stands in for DINO and VGG where a run should need
no download: features for alignment, for perceptual losses and for the Frechet distance on `scenes`. A file that
`daybreak teach` wrote, of pictures of one's own say, can take its place in a run.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from daybreak.cpu import functions, kernels
from daybreak.encoders.teacher_file import WEIGHTS, no_teacher

STRIDE = 4
"""Pixels a feature stands for, in each direction."""
WIDTHS = (24, 48, 96)


class NormSiLU(nn.GroupNorm):
    """Group norm, then SiLU: one kernel on a CPU where no gradient is taken, as of a teacher's targets."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        if kernels.usable(input) and not (
            torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad)
        ):
            return functions.group_norm_silu(input, self.num_groups, self.weight, self.bias, self.eps)
        return F.silu(super().forward(input))


class EmbeddedTeacher(nn.Module):
    """Three stages of 3 x 3 convolutions at strides 1, 2 and 4; `width` channels at the end."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.width = third
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*_layer(3, first)),
                nn.Sequential(*_layer(first, second, stride=2), *_layer(second, second)),
                nn.Sequential(*_layer(second, third, stride=2), *_layer(third, third), *_layer(third, third)),
            ]
        )
        # Of the last features over scenes: they share a large mean, which would rule every cosine between them.
        self.register_buffer("mean", torch.zeros(third))
        self.register_buffer("deviation", torch.ones(third))

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> EmbeddedTeacher:
        """The trained network, frozen; ConfigError where the file is missing or not its own."""
        network = cls()
        try:
            network.load_state_dict({k: v.float() for k, v in load_file(path).items()})
        except (OSError, SafetensorError, RuntimeError) as e:
            raise no_teacher(path, e) from None
        return network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] -> the features of the stages, [B, C_i, H / s_i, W / s_i] for s = 1, 2, 4."""
        features = []
        x = images if torch.is_grad_enabled() else images.contiguous(memory_format=torch.channels_last)  # as convolved
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def patch_features(self, images: Tensor) -> Tensor:
        """The last stage's features with mean 0 and deviation 1 over scenes: [B, 3, H, W] -> [B, H W / 16, C]."""
        last = self(images)[-1].flatten(2).transpose(1, 2)
        return (last - self.get_buffer("mean")) / self.get_buffer("deviation")

    @torch.no_grad()
    def standardise(self, images: Tensor) -> None:
        """Sets mean and deviation, channel by channel, to those over all places of `images`."""
        last = self(images)[-1].transpose(0, 1).flatten(1)
        self.get_buffer("mean").copy_(last.mean(1))
        self.get_buffer("deviation").copy_(last.std(1))


def _layer(channels_in: int, channels_out: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        NormSiLU(channels_out // 12, channels_out),
        nn.Identity(),  # by which the weights of files made before keep their names
    ]


def picture_features(network: EmbeddedTeacher, images: Tensor) -> Tensor:
    """One vector a picture, for distances between sets: [B, 3, H, W] -> [B, 2 C].

    Mean and standard deviation of the last stage's features over the picture.
    """
    features = network(images)[-1].flatten(2)
    return torch.cat([features.mean(2), features.std(2)], dim=1)
