#!/bin/sh
# torchao 0.18.0 with torch 2.13.0: AdamW8bit, which stands in for torch's AdamW, keeps the learning rate that it is
# given as a number in a tensor. A loop that sets group["lr"] to a number, as it may with torch's optimisers, raises at
# the next step; and a rate read from the group and kept is that tensor, which changes when a scheduler, knowing it,
# fills it anew.
# Prints both; fails where a number is taken.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 torchao==0.18.0 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import sys

import torch
import torchao
from torchao.optim import AdamW8bit

print(f"torchao {torchao.__version__}, torch {torch.__version__.partition('+')[0]}")
outcomes = {}
for kind in (torch.optim.AdamW, AdamW8bit):
    layer = torch.nn.Linear(4, 4)
    optimizer = kind(layer.parameters(), lr=0.5)
    layer(torch.ones(1, 4)).sum().backward()
    base = optimizer.param_groups[0]["lr"]
    halving = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    print(f"{kind.__name__}: the rate of before, 0.5, is {float(base)} once a scheduler has halved it;", end=" ")
    optimizer.param_groups[0]["lr"] = 0.1
    try:
        optimizer.step()
        outcomes[kind] = "taken"
    except RuntimeError as error:
        outcomes[kind] = str(error)
    print(f"a number: {outcomes[kind]}")
sys.exit(0 if outcomes[AdamW8bit] != "taken" else "AdamW8bit takes a number: this is mended")
PYTHON
