"""The attention that the model shows is that by which it draws."""

import pytest
import torch
import torch.nn.functional as F

from daybreak.attention import attention_shares
from daybreak.config import ModelConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.transformer import Transformer

G = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("masked", [False, True])
def test_shares_are_what_torch_s_attention_weighs_with(masked):
    q, k = torch.randn(2, 3, 20, 8, generator=G), torch.randn(2, 3, 9, 8, generator=G)
    mask = torch.zeros(2, 1, 1, 9)
    mask[0, ..., 3:5] = float("-inf") if masked else 0
    # With one-hot values attention gives back its own weights.
    weights = F.scaled_dot_product_attention(q, k, torch.eye(9).expand(2, 3, 9, 9), attn_mask=mask)
    ours = attention_shares(q, k, mask if masked else None, 9)
    assert torch.allclose(ours, weights.mean(dim=1), atol=1e-6)
    assert torch.equal(attention_shares(q, k, mask, 4), attention_shares(q, k, mask, 9)[..., :4])


@pytest.mark.parametrize(("layout", "modulation"), [("text_kv", "block"), ("joint", "none"), ("joint", "shared")])
@pytest.mark.parametrize("remembered", [False, True])
def test_looking_changes_nothing_and_passes_over_padding(layout, modulation, remembered):
    torch.manual_seed(0)
    model = Transformer(ModelConfig(width=32, heads=2, depth=3, layout=layout, modulation=modulation), text_width=16)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)  # the last layers begin at zero
    text = TextTokens(torch.randn(2, 6, 16), torch.tensor([[True] * 6, [True] * 4 + [False] * 2]))
    text = text.remembered() if remembered else text
    x_t, t = torch.randn(2, 3, 32, 32), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        plain, looking = model(x_t, t, text), model(x_t, t, text, look=True)
    assert plain.attention is None
    assert torch.equal(plain.x0, looking.x0)
    assert looking.attention.shape == (2, 64, 6)
    assert (looking.attention[0] > 0).all() and looking.attention.sum(dim=-1).max() < 1
    assert not looking.attention[1, :, 4:].any()
