"""Perceptual losses: LPIPS (arXiv 1801.03924) and the cosine between patch features (PixelGen, arXiv 2602.02493)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.encoders.embedded_teacher import EmbeddedTeacher
from daybreak.encoders.teacher_file import EMBEDDED, taught_file

VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
"""VGG16's convolutions by their channels (arXiv 1409.1556, configuration D), up to the last one that LPIPS reads."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16Features(nn.Module):
    """The convolutions of VGG16 under torchvision's names (`features.0.weight`, ...); five feature maps."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for item in VGG16:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, item, 3, padding=1), nn.ReLU(inplace=True)]
                channels = item
        self.features = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] -> relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""
        mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
        std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
        x, maps = ((images + 1) / 2 - mean) / std, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps, x]


class LPIPS(nn.Module):
    """Weighted squared distance between unit-length features, summed over layers (LPIPS, eq. 1).

    d = sum over layers l of mean over places of w_l . (y_l - y0_l)^2, y of unit length over channels. `heads`: w_l,
    [C_l] each. Channels lie next to each other in memory (channels last), the order that convolutions are fastest in.
    """

    def __init__(self, network: nn.Module, heads: list[Tensor]) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for i, head in enumerate(heads):
            self.register_buffer(f"head_{i}", head.detach().view(1, -1, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b [B, 3, H, W] in [-1, 1] -> [B]. No gradient for b."""
        features_a = self.network(a.contiguous(memory_format=torch.channels_last))
        with torch.no_grad():
            features_b = self.network(b.contiguous(memory_format=torch.channels_last))
        total = a.new_zeros(len(a))
        for i, (x, y) in enumerate(zip(features_a, features_b, strict=True)):
            difference = (_unit(x) - _unit(y)).square()
            total = total + (self.get_buffer(f"head_{i}") * difference).sum(1).mean((1, 2))
        return total


def _unit(x: Tensor) -> Tensor:
    """Unit length over channels, in float32; the small constant is that of the published code."""
    x = x.float()
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def open_lpips(network: str, heads: str | None) -> LPIPS:
    """LPIPS on VGG16 (files of torchvision's weights and of the published heads), or on a teacher of `daybreak teach`.

    Without heads `network` is the embedded teacher or a file of another, and the channels of each of its three stages
    weigh alike. Raises ConfigError for a missing, damaged or foreign file.
    """
    if heads is None:
        if (file := taught_file(network)) is None:
            raise ConfigError(
                "perceptual.lpips_heads is none; VGG16 needs the file of LPIPS's published heads (vgg.pth)"
            )
        try:
            teacher = EmbeddedTeacher.load(file)
        except ConfigError as e:
            raise ConfigError(f"perceptual.lpips_network: {e}; VGG16's weights need perceptual.lpips_heads") from None
        widths = [stage[-3].out_channels for stage in teacher.stages]  # type: ignore[index]
        return LPIPS(teacher, [torch.full((int(c),), 1.0 / 3) for c in widths])
    if network == EMBEDDED:
        raise ConfigError(
            "perceptual.lpips_heads belongs to VGG16, and perceptual.lpips_network is embedded: "
            "give the file of VGG16's weights there, or leave the heads out"
        )
    vgg = VGG16Features()
    state = {k: v for k, v in _read(network, "perceptual.lpips_network").items() if k.startswith("features.")}
    try:
        known = vgg.state_dict().keys()
        vgg.load_state_dict({k: v for k, v in state.items() if k in known})
        lines = _read(heads, "perceptual.lpips_heads")
        weights = [lines[f"lin{i}.model.1.weight"].flatten() for i in range(5)]
    except (RuntimeError, KeyError) as e:
        reason = " ".join(str(e).split())[:160]
        raise ConfigError(f"{network} and {heads} are not VGG16's weights and LPIPS's heads: {reason}") from None
    return LPIPS(vgg, weights)


def _read(path: str, setting: str) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a .pth file read without unpickling objects."""
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, EOFError, ValueError) as e:
        raise ConfigError(f"{setting} {path} cannot be read: {' '.join(str(e).split())[:160]}") from None


def scaled(images: Tensor, scale: float) -> Tensor:
    """[B, 3, H, W] scaled by `scale` (area average, which for one half is each 2 x 2 block's mean)."""
    if scale == 1:
        return images
    side = [max(1, round(s * scale)) for s in images.shape[-2:]]
    return F.interpolate(images, size=side, mode="area")
