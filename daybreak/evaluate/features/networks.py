"""The networks whose features are compared: Inception (TorchScript), CLIP and DINOv2 (transformers)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.encoders.vision import IMAGENET_MEAN, IMAGENET_STD
from daybreak.evaluate.downloads import INCEPTION, fetch, sha256, verify
from daybreak.evaluate.features import preprocess
from daybreak.hub_models import HUB_MODELS, load_pretrained

INCEPTION_PX = 299
CLIP_TOKENS = 77


class Network(Protocol):
    """Pictures to features [B, D] float32. `key` names weights and preprocessing: equal keys, equal features."""

    key: str
    note: str
    """What a reader of the figures has to know of it; empty for the standard network."""

    def prepare(self, image: Image.Image) -> Tensor:
        """One picture as [3, S, S], on the CPU."""
        ...

    def features(self, pixels: Tensor) -> Tensor:
        """Prepared pictures [B, 3, S, S], on the network's device, to [B, D]."""
        ...


class Inception:
    """The Inception network of FID as TorchScript, through its own interface.

    `module(pixels, return_features=True)` gives 2,048 pooled features; `module(pixels, no_output_bias=True)` class
    probabilities, for the Inception score. It takes [B, 3, 299, 299] in 0..255 and normalises by itself.
    """

    def __init__(self, path: Path | None, device: torch.device, tell: Callable[[str], None], classes: bool = False):
        self.note = ""
        if path is None:
            path = fetch(INCEPTION, tell)
        elif not path.is_file():
            raise ConfigError(f"--weights inception={path}: no such file")
        elif path.name == INCEPTION.name:
            verify(INCEPTION, path)
        digest = sha256(path)
        if digest != INCEPTION.sha256:
            self.note = f"{path.name} is not the standard Inception network: figures compare with its own only"
        try:
            self._module = torch.jit.load(str(path), map_location=device).eval()
        except RuntimeError:
            raise ConfigError(f"--weights inception={path} is no TorchScript file") from None
        self._classes = classes
        self.key = f"inception-{'classes' if classes else 'features'}-{digest[:16]}-clean"

    def prepare(self, image: Image.Image) -> Tensor:
        """See `Network`."""
        return preprocess.resize_channels(image, INCEPTION_PX)

    def features(self, pixels: Tensor) -> Tensor:
        """See `Network`."""
        if self._classes:
            return self._module(pixels, no_output_bias=True).float()
        return self._module(pixels, return_features=True).flatten(1).float()


class Clip:
    """CLIP: picture and text embeddings in one space [B, D], not scaled to unit length."""

    def __init__(self, name: str, weights: str | None, device: torch.device, fetch: bool = True):
        """fetch: whether what is not on this machine is downloaded."""
        from transformers import CLIPModel

        self._model = load_pretrained(CLIPModel, name, weights, local_files_only=not fetch).to(device)
        self._tokenizer: Any = None
        self._fetch = fetch
        self._source = weights or HUB_MODELS[name][0]
        self._side = self._model.config.vision_config.image_size
        self._most = min(CLIP_TOKENS, self._model.config.text_config.max_position_embeddings)
        self.scale = float(self._model.logit_scale.detach().exp())
        """What cosines are multiplied by, as it was trained."""
        self.key = f"clip-{weights_digest(self._model)}-{self._side}"
        self.note = weights_note(name, weights)

    def prepare(self, image: Image.Image) -> Tensor:
        """See `Network`."""
        return preprocess.crop_middle(image, self._side)

    def features(self, pixels: Tensor) -> Tensor:
        """See `Network`."""
        normal = preprocess.normalise(pixels, preprocess.CLIP_MEAN, preprocess.CLIP_STD)
        return self._model.get_image_features(pixel_values=normal).pooler_output.float()

    @torch.no_grad()
    def text_features(self, texts: list[str]) -> Tensor:
        """Texts, cut at 77 tokens, to [len(texts), D]."""
        tokens = self._tokenise(texts, truncation=True, max_length=self._most, padding=True, return_tensors="pt")
        return self._model.get_text_features(**tokens.to(self._model.device)).pooler_output.float()

    def too_long(self, texts: list[str]) -> int:
        """How many texts are longer than what CLIP reads."""
        return sum(len(ids) > self._most for ids in self._tokenise(texts, verbose=False)["input_ids"])

    def _tokenise(self, texts: list[str], **options: Any) -> Any:
        if self._tokenizer is None:
            from transformers import CLIPTokenizer

            self._tokenizer = CLIPTokenizer.from_pretrained(self._source, local_files_only=not self._fetch)
        return self._tokenizer(texts, **options)


class DinoV2:
    """DINOv2: the class token after the last norm, pictures at 224 px (FD-DINOv2: Stein et al. 2023)."""

    SIDE = 224

    def __init__(self, weights: str | None, device: torch.device):
        from transformers import Dinov2Model

        self._model = load_pretrained(Dinov2Model, "dinov2", weights).to(device)
        patch = self._model.config.patch_size
        self._side = self.SIDE // patch * patch
        self.key = f"dinov2-{weights_digest(self._model)}-{self._side}"
        self.note = weights_note("dinov2", weights)

    def prepare(self, image: Image.Image) -> Tensor:
        """See `Network`."""
        return preprocess.squeeze(image, self._side)

    def features(self, pixels: Tensor) -> Tensor:
        """See `Network`."""
        normal = preprocess.normalise(pixels, IMAGENET_MEAN, IMAGENET_STD)
        return self._model(pixel_values=normal).last_hidden_state[:, 0].float()


def weights_digest(model: nn.Module) -> str:
    """A digest of a model's weights and their names."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_note(name: str, weights: str | None) -> str:
    """What a report says of a network that is not the usual one; empty for the usual one."""
    default = HUB_MODELS[name][0]
    if weights is None or weights == default:
        return ""
    return f"{name} is {weights}, in place of {default}: figures compare with its own only"
