"""What networks want of a picture. Resizing decides the third digit of a FID, so each is as its reference does it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def resize_channels(image: Image.Image, side: int) -> Tensor:
    """The whole picture squeezed to [3, side, side] float32 in 0..255, unrounded.

    Bicubic with antialiasing, channel by channel in float: clean-fid's resizing (Parmar et al. 2022).
    """
    pixels = np.asarray(image, dtype=np.float32)
    channels = [
        np.asarray(Image.fromarray(pixels[:, :, c]).resize((side, side), Image.Resampling.BICUBIC)) for c in range(3)
    ]
    return torch.from_numpy(np.stack(channels).clip(0, 255))


def squeeze(image: Image.Image, side: int) -> Tensor:
    """The whole picture squeezed to [3, side, side] uint8, bicubic with antialiasing, as for FD-DINOv2."""
    return _tensor(image.resize((side, side), Image.Resampling.BICUBIC))


def crop_middle(image: Image.Image, side: int) -> Tensor:
    """The middle square as [3, side, side] uint8: the shorter side scaled bicubically, then cropped, as CLIP does."""
    scale = side / min(image.size)
    width, height = (max(side, int(n * scale)) for n in image.size)
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return _tensor(scaled.crop((left, top, left + side, top + side)))


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[B, 3, H, W] in 0..255 -> (pixels / 255 - mean) / std, float32."""
    m, s = (pixels.new_tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (mean, std))
    return (pixels.float() / 255 - m) / s


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
