"""Two streams in one attention, against diffusers' own double-stream block."""

import pytest
import torch

from daybreak.config import ModelConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.joint import JointBlock
from daybreak.model.transformer import Transformer

WIDTH, HEADS, HIDDEN = 32, 4, 48


@pytest.fixture
def theirs():
    """FLUX.2's block: MM-DiT's, with the gated MLP that ours has, and its modulation given from outside."""
    from diffusers.models.transformers.transformer_flux2 import Flux2TransformerBlock

    torch.manual_seed(0)
    block = Flux2TransformerBlock(WIDTH, HEADS, WIDTH // HEADS, mlp_ratio=HIDDEN / WIDTH)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return block


def ours_of(theirs):
    """Our block with its weights; norms of queries and keys are one for both streams in ours."""
    block, a = JointBlock(WIDTH, HEADS, HIDDEN, "block"), theirs.attn
    with torch.no_grad():
        a.norm_added_q.weight.copy_(a.norm_q.weight)
        a.norm_added_k.weight.copy_(a.norm_k.weight)
        block.norm_q.weight.copy_(a.norm_q.weight)
        block.norm_k.weight.copy_(a.norm_k.weight)
        for stream, qkv, out, mlp in (
            (block.image, (a.to_q, a.to_k, a.to_v), a.to_out[0], theirs.ff),
            (block.text, (a.add_q_proj, a.add_k_proj, a.add_v_proj), a.to_add_out, theirs.ff_context),
        ):
            stream.attention_qkv.weight.copy_(torch.cat([layer.weight for layer in qkv]))
            stream.attention_qkv.bias.zero_()
            stream.attention_out.weight.copy_(out.weight)
            stream.attention_out.bias.zero_()
            stream.mlp.gate_up.weight.copy_(mlp.linear_in.weight)
            stream.mlp.down.weight.copy_(mlp.linear_out.weight)
            torch.nn.init.normal_(stream.modulation.linear.weight, std=0.3)
            torch.nn.init.normal_(stream.modulation.linear.bias, std=0.3)
    return block


@pytest.mark.parametrize("grad", [False, True])
def test_a_modulated_block_computes_what_diffusers_computes(theirs, grad):
    ours = ours_of(theirs)
    x, text, time = torch.randn(2, 9, WIDTH), torch.randn(2, 5, WIDTH), torch.randn(2, WIDTH)
    still = {n: (torch.ones(n, WIDTH // HEADS), torch.zeros(n, WIDTH // HEADS)) for n in (9, 5)}  # no rotation
    with torch.set_grad_enabled(grad):
        image, words = ours(x, text, still[9], still[5], None, time)
        modulations = (ours.image.modulation.linear(time), ours.text.modulation.linear(time))
        their_words, their_image = theirs(x, text, *modulations)
    for mine, other in ((image, their_image), (words, their_words)):
        assert (mine - other).abs().max() < 2e-6 * other.abs().max()


@pytest.mark.parametrize("modulation", ["block", "shared"])
def test_both_streams_hear_of_the_time_and_begin_as_the_identity(modulation):
    torch.manual_seed(0)
    model = Transformer(ModelConfig(WIDTH, 2, HEADS, layout="joint", modulation=modulation), text_width=16)
    text = TextTokens(torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool))
    x = torch.randn(2, 3, 16, 16)
    assert not model(x, torch.tensor([0.2, 0.7]), text).x0.any()  # grey
    for name, p in model.named_parameters():
        if "modulation" in name or name.startswith("final") or name.endswith(("down.weight", "attention_out.weight")):
            torch.nn.init.normal_(p, std=0.2)
    early, late = (model(x, torch.full((2,), t), text).x0 for t in (0.2, 0.7))
    assert not torch.allclose(early, late, atol=1e-3)
    early.square().mean().backward()
    heard = {n for n, p in model.named_parameters() if "modulation" in n and p.grad is not None and p.grad.any()}
    assert any("image" in n for n in heard) and any("text" in n for n in heard)
