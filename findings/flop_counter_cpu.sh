#!/bin/sh
# torch 2.13.0: FlopCounterMode counts nothing for scaled_dot_product_attention on a CPU, forward or backward, and
# nothing at all for a TransformerEncoderLayer in eval mode without gradients, whose fused path it does not know; no
# warning.
# Prints what it counts for each and for the same products written out; fails where it counts either.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode


def counted(what):
    with FlopCounterMode(display=False) as counter:
        what()
    return counter.get_total_flops()


q, k, v = (torch.randn(1, 4, 256, 64, requires_grad=True) for _ in range(3))
layer = torch.nn.TransformerEncoderLayer(64, 4, batch_first=True)


def written_out():
    (torch.softmax(q @ k.mT / 8, -1) @ v).sum().backward()


def fused():
    torch.nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()


def encoded():
    with torch.no_grad():
        layer(torch.ones(1, 256, 64))


print(f"torch {torch.__version__.partition('+')[0]}, FLOPs counted:")
seen = {"attention written out": counted(written_out), "attention fused": counted(fused)}
for mode in ("train", "eval"):
    getattr(layer, mode)()
    seen[f"TransformerEncoderLayer, {mode} mode"] = counted(encoded)
for name, count in seen.items():
    print(f"{name}: {count:,}")
missing = seen["attention fused"] == 0 == seen["TransformerEncoderLayer, eval mode"]
sys.exit(0 if missing else "it counts what is fused: this is mended")
PYTHON
