"""AdamW against torch's."""

import pytest
import torch
from torch import nn

from daybreak.optim import adamw
from daybreak.optim.adamw import AdamW


@pytest.mark.parametrize("form", ["fused", "foreach"])
def test_it_is_torchs_to_the_bit(form, monkeypatch):
    monkeypatch.setattr(adamw, "fuses", lambda _: form == "fused")
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    theirs = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    theirs.load_state_dict(ours.state_dict())
    settings = {"lr": 0.03, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    mine, reference = (
        AdamW(ours.parameters(), **settings),
        torch.optim.AdamW(theirs.parameters(), **settings, **{form: True}),
    )
    for step in range(20):
        batch = torch.randn(4, 7)
        for network, optimizer in ((ours, mine), (theirs, reference)):
            network(batch).square().mean().backward()
            if step == 5:
                network[0].weight.grad = None  # a parameter that is left out of a step
            for group in optimizer.param_groups:
                group["lr"] = 0.03 / (1 + step)
            optimizer.step()
            optimizer.zero_grad()
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)), step
    for a, b in zip(mine.state_dict()["state"].values(), reference.state_dict()["state"].values(), strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
