"""Captions padded to few lengths, as a GPU gets them, say the same."""

import pytest
import torch

from daybreak.config import TextConfig
from daybreak.encoders.text import GPU_LENGTHS, TextEncoder


@pytest.mark.parametrize(("limit", "expected"), [(96, GPU_LENGTHS), (20, 20)])
def test_padding_to_few_lengths_changes_no_real_token(limit, expected):
    torch.manual_seed(0)
    encoder = TextEncoder.create(["a red circle"], TextConfig(width=16, depth=1, heads=2, max_tokens=limit))
    ids, mask = encoder.tokens(["a red circle", ""])
    more_ids, more_mask = encoder._to_few_lengths(ids, mask)
    assert more_ids.shape == more_mask.shape == (2, expected)
    assert torch.equal(more_mask.sum(1), mask.sum(1))
    with torch.no_grad():
        few = encoder.network(input_ids=ids, attention_mask=mask).last_hidden_state
        many = encoder.network(input_ids=more_ids, attention_mask=more_mask).last_hidden_state
    assert torch.allclose(few[mask], many[more_mask], atol=1e-5)
