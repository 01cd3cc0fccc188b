"""Captions padded to few lengths, as devices get them, say the same."""

import pytest
import torch
import torch.nn.functional as F

from daybreak.config import TextConfig
from daybreak.encoders import text
from daybreak.encoders.text import CPU_LENGTHS, GPU_LENGTHS, TextEncoder


@pytest.mark.parametrize(("limit", "expected"), [(96, GPU_LENGTHS), (20, 20)])
def test_padding_to_few_lengths_changes_no_real_token(limit, expected, monkeypatch):
    torch.manual_seed(0)
    encoder = TextEncoder.create(["a red circle"], TextConfig(width=16, depth=1, heads=2, max_tokens=limit))
    ids, mask = encoder.tokens(["a red circle", ""])
    monkeypatch.setattr(text, "CPU_LENGTHS", GPU_LENGTHS)
    more = encoder.padded_length(ids.shape[1]) - ids.shape[1]
    more_ids, more_mask = F.pad(ids, (0, more), value=encoder.pad_id), F.pad(mask, (0, more))
    assert more_ids.shape == (2, expected)
    with torch.no_grad():
        few = encoder.network(ids, mask)
        many = encoder.network(more_ids, more_mask)
    assert torch.allclose(few[mask], many[more_mask], atol=1e-5)


def test_a_cpu_sees_few_lengths_where_captions_differ_in_length():
    encoder = TextEncoder.create(["a red circle"] * 3, TextConfig(width=16, depth=1, heads=2))
    alone = encoder.tokens(["a red circle"])[1]
    assert alone.all()
    mixed = encoder.tokens(["a red circle", ""])[1]
    assert mixed.shape[1] == -(-alone.shape[1] // CPU_LENGTHS) * CPU_LENGTHS
    assert mixed.sum(dim=1).tolist() == [alone.shape[1], encoder.tokens([""])[1].shape[1]]
