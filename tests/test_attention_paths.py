"""Attention by its formula, whichever way is taken: fused, written out, with the kernel for a CPU."""

import pytest
import torch
import torch.nn.functional as F

from daybreak import attention
from daybreak.attention import FUSED_FROM_QUERIES, attend

G = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("queries", [5, FUSED_FROM_QUERIES])
@pytest.mark.parametrize("grad", [False, True])
def test_attention_equals_its_formula(masked, queries, grad):
    q, k, v = (torch.randn(2, 3, n, 8, generator=G) for n in (queries, 9, 9))
    mask = torch.zeros(2, 1, 1, 9)
    if masked:
        mask[0, ..., 6:] = float("-inf")
    expected = torch.softmax(torch.einsum("bhnd,bhmd->bhnm", q, k) / 8**0.5 + mask, dim=-1) @ v
    with torch.set_grad_enabled(grad):
        assert torch.allclose(attend(q, k, v, mask if masked else None), expected, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("mask", [None, (1, 1, 1, 9), (3, 1, 1, 9), (3, 1, 5, 9), (1, 2, 5, 9)])
@torch.no_grad()
def test_attention_written_out_equals_torch_s_however_many_pictures_the_caches_hold(mask, at_once, monkeypatch):
    monkeypatch.setattr(attention, "on_onednn", lambda: True)
    monkeypatch.setattr(attention, "CACHED_LOGITS", at_once * 2 * 5 * 9)
    q, k, v = torch.randn(3, 5, 2, 8).transpose(1, 2), torch.randn(3, 2, 9, 8), torch.randn(3, 2, 9, 8)
    bias = None if mask is None else torch.randn(mask).masked_fill_(torch.rand(mask) < 0.3, float("-inf"))
    if bias is not None:
        bias[..., 0] = 0
    for scale in (None, 1.0):
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        assert torch.allclose(attend(q, k, v, bias, scale=scale), expected, atol=1e-5)
    if bias is not None:
        bias[..., 4:] = 0
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        assert torch.allclose(attend(q, k, v, bias, masked=4), expected, atol=1e-5)
