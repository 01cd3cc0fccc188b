"""The pixel transformer of the speedrun: noisy pixels in, clean pixels out.

Facts: patches of p x p RGB pixels pass a linear bottleneck into tokens; every block lets image tokens attend to image
and text; a time embedding modulates every block; the last layer gives the clean patch (x-prediction, "Back to Basics",
arXiv 2511.13720). With the same weights it computes what diffusers' `PRXTransformer2DModel` computes.

Parts that PRX has not, each off unless the config asks for it: convolutions in place of patches (convolutions.py), a
head that adds detail (detail.py), the text's mean in the time embedding (as SD 3 has it), convolutions on the text, and
words with a place (grounding.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from daybreak.config import ConfigError, ModelConfig, RoutingConfig
from daybreak.diffusion import flow
from daybreak.encoders.text import TextTokens, Words
from daybreak.model.convolutions import Decoder, Stem, TextConvolutions
from daybreak.model.detail import Detail
from daybreak.model.grounding import FREQUENCIES, Grounding, attention_bias, place_features
from daybreak.model.initial_values import begin_without, set_initial_values
from daybreak.model.joint import JointBlock, TextBlock
from daybreak.model.layers import NORM_EPS, Block, MLPEmbedder, modulate, sinusoid
from daybreak.model.rope import axial_angles, line_angles, rms_norm, rotation
from daybreak.model.routing import Fusion, put_back, returns_before, take

TIME_WIDTH = 256
"""Width of the sinusoid in front of the time embedding."""
TIME_FACTOR = 1000.0
"""Times in [0, 1] are multiplied by this before the sinusoid."""
VELOCITY_FLOOR = 1e-3
"""Floor of t where the network predicts velocities and x0 is made of them."""


@dataclass(frozen=True)
class Prediction:
    """What the transformer gives back.

    x0: the clean picture, [B, 3, H, W], not clamped. features: tokens after the asked-for block, [B, K, C], or None.
    visible: which tokens of the grid those are, [B, K], or None where they are all. attention: the share of each image
    token's attention that goes to each text token, mean over blocks and heads, [B, N, L], where it was asked for.
    grounding: logits of whether a text token belongs to a place of the grid, [B, L, N], where the model has them.
    """

    x0: Tensor
    features: Tensor | None = None
    visible: Tensor | None = None
    attention: Tensor | None = None
    grounding: Tensor | None = None


class Transformer(nn.Module):
    """The pixel transformer.

    `config` holds its dimensions, `text_width` the width of the text tokens that it will be given, `routing` where
    tokens leave and return. Raises ConfigError where the dimensions do not fit each other.
    """

    def __init__(self, config: ModelConfig, text_width: int, routing: RoutingConfig | None = None) -> None:
        super().__init__()
        c = config
        if c.width % c.heads or (c.width // c.heads) % 4:
            raise ConfigError(
                f"model.width {c.width} with model.heads {c.heads} gives heads of {c.width / c.heads:g} channels; "
                "two-axis RoPE needs a multiple of 4"
            )
        self.config = c
        if c.start == "identity" and (c.bottleneck or c.width <= 3 * c.patch**2):
            raise ConfigError(
                f"model.start identity needs model.width above a patch's {3 * c.patch**2} values and no bottleneck; "
                f"width is {c.width}, bottleneck {c.bottleneck or 'none'}"
            )
        self.routing = routing or RoutingConfig()
        self.returns = returns_before(self.routing, c.depth)
        patch_values, hidden = 3 * c.patch**2, int(c.width * c.mlp_ratio)
        self.patch_embedding: nn.Module | None = None
        self.stem = Stem(c.convolutions, c.width) if c.convolutions else None
        # Convolutions end at the picture's edge, but a token has to know its place from the first step on.
        self.place_embedding = nn.Linear(4 * FREQUENCIES, c.width) if c.convolutions else None
        if c.bottleneck:
            self.patch_embedding = nn.Sequential(
                nn.Linear(patch_values, c.bottleneck), nn.Linear(c.bottleneck, c.width)
            )  # fmt: skip
        elif not c.convolutions:
            self.patch_embedding = nn.Linear(patch_values, c.width)
        timed = c.modulation != "none"
        self.time_embedding = MLPEmbedder(TIME_WIDTH, c.width) if timed else None
        self.size_embedding = MLPEmbedder(TIME_WIDTH, c.width) if c.size_conditioning else None
        self.shared_modulation = nn.Linear(c.width, 6 * c.width) if c.modulation == "shared" else None
        self.text_convolutions = TextConvolutions(text_width, c.text_convolutions) if c.text_convolutions else None
        self.grounding = Grounding(text_width) if c.grounding else None
        self.pooled_embedding = nn.Linear(text_width, c.width) if c.pooled_text else None
        self.text_embedding = nn.Linear(text_width, c.width)
        self.text_blocks = nn.ModuleList(TextBlock(c.width, c.heads, hidden) for _ in range(c.text_blocks))
        self.joint = c.layout == "joint"
        self.blocks: nn.ModuleList = nn.ModuleList(
            (JointBlock if self.joint else Block)(c.width, c.heads, hidden, c.modulation) for _ in range(c.depth)
        )
        self.fusion = Fusion(c.width) if self.routing.method == "sprint" else None
        self.final_modulation = nn.Linear(c.width, 2 * c.width) if timed else None
        self.final_norm = None if timed else nn.RMSNorm(c.width, eps=NORM_EPS)
        self.final = None if c.convolutions else nn.Linear(c.width, patch_values)
        self.decoder = Decoder(c.convolutions, c.width) if c.convolutions else None
        set_initial_values(self)
        # Last, so that with the same seed all else begins with the same values as without it.
        self.detail = Detail(c.detail, c.width, c.patch) if c.detail else None
        if self.detail is not None:
            begin_without(self.detail)

    def forward(
        self, x_t: Tensor, t: Tensor, text: TextTokens, visible: Tensor | None = None,
        feature_layer: int | None = None, dropped: Tensor | None = None, look: bool = False,
    ) -> Prediction:  # fmt: skip
        """x_t [B, 3, H, W], t [B] in [0, 1] (1 is noise), text tokens [B, L, text_width] with their mask.

        visible [B, K]: the image tokens that go through the middle blocks; None: all. feature_layer: features after so
        many blocks are wanted. dropped [B] bool: pictures whose middle blocks are left out whole (SPRINT). look: the
        attention to the text is wanted too, without routing (slower; nothing else changes by it).
        H and W are divisible by the patch size (ValueError otherwise).
        """
        rows, columns = self._grid(x_t)
        head_dim, theta = self.config.width // self.config.heads, self.config.rope_theta
        place = rotation(axial_angles(rows, columns, head_dim, theta, x_t.device))  # cos, sin: [N, D]
        text_place = rotation(line_angles(text.mask.shape[1], head_dim, theta, x_t.device))
        read = self._words(text, text_place)
        words = read.words  # [B, L, C]
        time = self.embed_time(t, x_t, read.pooled)  # [B, C], or None
        modulation = self.shared_modulation(time) if self.shared_modulation is not None else time
        x, kept = self._tokens(x_t, time, rows, columns)  # [B, N, C]
        mask = key_mask(text, rows * columns)  # [B, 1, 1, L + N]
        grounding = None
        if self.grounding is not None:
            grounding = self.grounding(read.text, place_features(rows, columns, x.device))  # [B, L, N]
            mask = attention_bias(grounding, mask)  # [B, 1, N, L + N]
        looks: list[Tensor] | None = [] if look else None

        def run(index: int, x: Tensor, words: Tensor, place: Any, mask: Tensor | None) -> tuple[Tensor, Tensor]:
            block = self.blocks[index]
            if self.joint:
                return self._run(block, x, words, place, text_place, mask, modulation, looks)
            return self._run(block, x, words, modulation, *place, mask, text.memory, index, looks), words

        features, features_visible, before = None, None, None
        everywhere = place, mask
        for index in range(len(self.blocks)):
            if index == self.routing.start and (visible is not None or self.fusion is not None):
                before = x
                if visible is not None:
                    x = take(x, visible)  # [B, K, C]
                    cos, sin = (take(p.expand(len(x), -1, -1), visible)[:, None] for p in place)
                    place = cos, sin  # [B, 1, K, D] each
                    if mask is not None and mask.shape[2] > 1:
                        mask = take(mask[:, 0], visible)[:, None]  # [B, 1, K, L + N]
                    mask = None if mask is None else mask[..., : words.shape[1] + x.shape[1]]
            x, words = run(index, x, words, place, mask)
            if index + 1 == feature_layer:
                features, features_visible = x, visible if before is not None else None
            if index + 1 == self.returns and before is not None:
                if visible is not None:
                    place, mask = everywhere
                if self.fusion is not None:
                    x = self.fusion(x, before, visible, dropped)
                elif visible is not None:
                    x = put_back(x, before, visible)  # [B, N, C]
                before = None
        x = self._last_norm(x, time)
        if self.decoder is not None:
            assert time is not None
            output = self.decoder(x, kept, time, x_t)
        else:
            assert self.final is not None
            output = unpatchify(self.final(x), self.config.patch, rows, columns)  # from [B, N, 3 p p]
        if self.detail is not None:
            output = output + self.detail(x_t, output, x)
        if self.config.predicts == "velocity":
            output = flow.to_x0(x_t, output, t, VELOCITY_FLOOR)
        attention = torch.stack(looks).mean(dim=0) if looks is not None else None
        return Prediction(output, features, features_visible, attention, grounding)

    def _tokens(self, x_t: Tensor, time: Tensor | None, rows: int, columns: int) -> tuple[Tensor, list[Tensor]]:
        """x_t [B, 3, H, W] -> tokens [B, N, C], and what the convolutions keep for the way back."""
        if self.stem is None:
            assert self.patch_embedding is not None
            return self.patch_embedding(patchify(x_t, self.config.patch)), []
        assert self.place_embedding is not None and time is not None
        x, kept = self.stem(x_t, time)
        return x + self.place_embedding(place_features(rows, columns, x.device)), kept

    def _words(self, text: TextTokens, place: tuple[Tensor, Tensor]) -> Words:
        """`embed_text`, or what is remembered of it."""
        if text.memory is None:
            return self.embed_text(text, place)
        if text.memory.words is None:
            text.memory.words = self.embed_text(text, place)
        return text.memory.words

    def embed_text(self, text: TextTokens, place: tuple[Tensor, Tensor]) -> Words:
        """[B, L, text_width] -> the text as the picture reads it, through layers of its own where there are any."""
        own = text.embeddings
        if self.text_convolutions is not None:
            own = self.text_convolutions(own, text.mask)
        pooled = None
        if self.pooled_embedding is not None:
            counts = text.mask[..., None].to(own.dtype)
            pooled = self.pooled_embedding((own * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1))
        words = self.text_embedding(own)
        for block in self.text_blocks:
            words = self._run(block, words, *place, key_mask(text, 0))
        return Words(own, words, pooled)

    def _run(self, block: nn.Module, *args: Any) -> Any:
        """block(*args), with its activations recomputed in the backward pass where the config says so."""
        if self.config.recompute and torch.is_grad_enabled():
            return recompute(block, *args, use_reentrant=False)
        return block(*args)

    def _last_norm(self, x: Tensor, time: Tensor | None) -> Tensor:
        if self.final_modulation is None:
            assert self.final_norm is not None
            return rms_norm(x, self.final_norm.weight, NORM_EPS)
        assert time is not None
        shift, scale = self.final_modulation(time)[:, None].chunk(2, dim=-1)
        return modulate(x, shift, scale)

    def embed_time(self, t: Tensor, x_t: Tensor, pooled: Tensor | None = None) -> Tensor | None:
        """[B] times -> [B, C] after SiLU; None where nothing is told the time.

        One time that was expanded to all pictures is embedded once, [1, C], where nothing of the pictures is added.

        With size conditioning, the picture's height and width are added in; `pooled` [B, C], the text's mean, too.
        """
        if self.time_embedding is None:
            return None
        if t.stride(0) == 0:
            t = t[:1]
        time = self.time_embedding(sinusoid(TIME_FACTOR * t, TIME_WIDTH))
        if pooled is not None:
            time = time + pooled
        if self.size_embedding is None:
            return F.silu(time)
        sides = torch.tensor(x_t.shape[-2:], dtype=torch.float32, device=x_t.device)
        return F.silu(time + self.size_embedding(sinusoid(sides, TIME_WIDTH // 2).reshape(1, TIME_WIDTH)))

    def _grid(self, x_t: Tensor) -> tuple[int, int]:
        h, w = x_t.shape[-2:]
        p = self.config.patch
        if h % p or w % p:
            raise ValueError(f"a picture of {w}x{h} px does not divide into patches of {p} px")
        return h // p, w // p


def patchify(x: Tensor, p: int) -> Tensor:
    """[B, 3, H, W] -> [B, (H / p)(W / p), 3 p p]; tokens row by row, values channel by channel."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)  # [B, H/p, W/p, 3, p, p]
    return x.reshape(b, (h // p) * (w // p), c * p * p)


def unpatchify(patches: Tensor, p: int, rows: int, columns: int) -> Tensor:
    """[B, rows * columns, 3 p p] -> [B, 3, rows p, columns p]: the inverse of `patchify`."""
    b = patches.shape[0]
    x = patches.view(b, rows, columns, 3, p, p).permute(0, 3, 1, 4, 2, 5)  # [B, 3, rows, p, columns, p]
    return x.reshape(b, 3, rows * p, columns * p)


def key_mask(text: TextTokens, image_tokens: int) -> Tensor | None:
    """What attention adds to its logits, [B, 1, 1, L + image_tokens]; None where nothing is masked.

    A row without any key, an empty caption alone, looks at its padding, which is zero.
    """
    if not text.padded:
        return None
    mask = F.pad(text.mask, (0, image_tokens), value=True)
    mask = mask | ~mask.any(1, keepdim=True)
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, float("-inf"))[:, None, None]
