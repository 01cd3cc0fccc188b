"""Captions padded to few lengths, as a GPU gets them, say the same."""

import pytest
import torch
import torch.nn.functional as F

from daybreak.config import TextConfig
from daybreak.encoders.text import GPU_LENGTHS, TextEncoder


@pytest.mark.parametrize(("limit", "expected"), [(96, GPU_LENGTHS), (20, 20)])
def test_padding_to_few_lengths_changes_no_real_token(limit, expected):
    torch.manual_seed(0)
    encoder = TextEncoder.create(["a red circle"], TextConfig(width=16, depth=1, heads=2, max_tokens=limit))
    ids, mask = encoder.tokens(["a red circle", ""])
    more = encoder.padded_length(ids.shape[1]) - ids.shape[1]
    more_ids, more_mask = F.pad(ids, (0, more), value=encoder.pad_id), F.pad(mask, (0, more))
    assert more_ids.shape == (2, expected)
    with torch.no_grad():
        few = encoder.network(ids, mask)
        many = encoder.network(more_ids, more_mask)
    assert torch.allclose(few[mask], many[more_mask], atol=1e-5)
