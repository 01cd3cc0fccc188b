"""FLOPs of the transformer's forward pass, per picture; a multiply-add is two. torch's own counter agrees (tests)."""

from __future__ import annotations

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.model.convolutions import TEXT_KERNEL
from daybreak.model.detail import RESIDUALS
from daybreak.model.grounding import FREQUENCIES, MATCH_WIDTH
from daybreak.model.routing import returns_before
from daybreak.model.transformer import TIME_WIDTH


def forward_flops(
    config: ModelConfig, routing: RoutingConfig, text_width: int, grid: tuple[int, int], text_tokens: int
) -> dict[str, int]:
    """{"blocks", "text blocks", "embeddings and last layer"} for a grid of tokens and a caption's length.

    Matrix products alone, as torch counts; norms, rotations and activations are left out.
    """
    c, w, h = config, config.width, int(config.width * config.mlp_ratio)
    tokens, patch_values = grid[0] * grid[1], 3 * config.patch**2
    kept = max(1, round(routing.keep * tokens))
    middle = range(routing.start, returns_before(routing, c.depth))
    block = _joint_block if c.layout == "joint" else _block
    blocks = sum(block(w, h, kept if i in middle else tokens, text_tokens) for i in range(c.depth))
    if c.modulation == "block":
        blocks += c.depth * 2 * 6 * w * w * (2 if c.layout == "joint" else 1)
    if routing.method == "sprint":
        blocks += 2 * tokens * 2 * w * w
    if c.convolutions:
        ends = _convolutions(c, tokens)
    else:
        ends = 2 * tokens * patch_values * w  # the last layer
        ends += 2 * tokens * (c.bottleneck * (patch_values + w) if c.bottleneck else patch_values * w)
    if c.detail:
        ends += _detail(c, tokens)
    ends += 2 * text_tokens * text_width * w
    if c.modulation != "none":
        ends += 2 * (TIME_WIDTH * w + w * w) + 2 * 2 * w * w
    if c.modulation == "shared":
        ends += 2 * 6 * w * w
    if c.size_conditioning:
        ends += 2 * (TIME_WIDTH * w + w * w)
    if c.pooled_text:
        ends += 2 * text_width * w
    if c.grounding:
        ends += 2 * MATCH_WIDTH * (text_tokens * text_width + tokens * 4 * FREQUENCIES + text_tokens * tokens)
    text = c.text_blocks * (_stream(w, h, text_tokens) + _attention(w, text_tokens, text_tokens))
    text += c.text_convolutions * 2 * text_tokens * TEXT_KERNEL * text_width * text_width
    return {"blocks": blocks, "text blocks": text, "embeddings and last layer": ends}


def _convolutions(c: ModelConfig, tokens: int) -> int:
    """Stem and decoder; a 3 x 3 convolution takes 9 products of channels a pixel."""
    total, pixels = 2 * tokens * 4 * FREQUENCIES * c.width, tokens * c.patch**2
    for i, channels in enumerate(c.convolutions):
        after = (*c.convolutions, c.width)[i + 1]
        if i == 0:
            total += 2 * 2 * 9 * pixels * 3 * channels  # the first and the last of all
        total += 2 * (2 * 2 * 9 * pixels * channels**2 + 2 * c.width * 2 * channels)  # a residual on either way
        total += 2 * 9 * (pixels // 4) * channels * after  # down
        total += 2 * (pixels // 4) * after * 4 * channels + 2 * pixels * 2 * channels**2  # up, and joined
        pixels //= 4
    return total


def _detail(c: ModelConfig, tokens: int) -> int:
    """The detail head: its convolutions, the first from 6 channels and the last to 3, and what modulates them."""
    products = 9 * (6 + 3) * c.detail + RESIDUALS * 2 * 9 * c.detail**2
    return 2 * tokens * (c.patch**2 * products + c.width * 2 * RESIDUALS * c.detail)


def _attention(width: int, queries: int, keys: int) -> int:
    return 2 * 2 * queries * keys * width


def _stream(width: int, hidden: int, tokens: int) -> int:
    """Query, key, value and output projections and the gated MLP."""
    return 2 * tokens * (4 * width * width + 3 * width * hidden)


def _block(width: int, hidden: int, tokens: int, text_tokens: int) -> int:
    text_kv = 2 * text_tokens * 2 * width * width
    return _stream(width, hidden, tokens) + text_kv + _attention(width, tokens, tokens + text_tokens)


def _joint_block(width: int, hidden: int, tokens: int, text_tokens: int) -> int:
    everyone = tokens + text_tokens
    return _stream(width, hidden, everyone) + _attention(width, everyone, everyone)
