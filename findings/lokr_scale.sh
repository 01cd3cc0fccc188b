#!/bin/sh
# peft 0.21.2 and lycoris-lora 4.1.3: the same LoKr of a linear layer is a different change of its weight where both
# factors are whole. peft multiplies it by alpha / rank, lycoris by 1, whatever alpha and rank say. With low-rank
# factors both multiply by alpha / rank. So a file that one of them wrote is read with another strength by the other.
# Prints what each makes of the same factors; fails where they agree.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 transformers==5.24.0 peft==0.21.2 accelerate==1.15.0 lycoris-lora==4.1.3
"$work/env/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from lycoris.modules.lokr import LokrModule
from peft import LoKrConfig, inject_adapter_in_model
from torch import nn

RANK, ALPHA = 4, 1.0


def by_lycoris(rank):
    module = LokrModule("name", nn.Linear(16, 16, bias=False), 1.0, lora_dim=rank, alpha=ALPHA, factor=4)
    whole = module.use_w1 and module.use_w2
    factors = {n: torch.ones_like(p) for n, p in module.named_parameters() if n.startswith("lokr")}
    module.load_state_dict(factors, strict=False)
    return whole, module.get_diff_weight()[0].abs().max().item()


def by_peft(rank):
    layers = nn.Sequential(nn.Linear(16, 16, bias=False))
    config = LoKrConfig(r=rank, alpha=ALPHA, target_modules=["0"], decompose_factor=4)
    layer = inject_adapter_in_model(config, layers)[0]
    with torch.no_grad():
        for name, factor in layer.named_parameters():
            if "lokr" in name:
                factor.fill_(1)
    return layer.get_delta_weight("default").abs().max().item()


print(f"peft {version('peft')}, lycoris-lora {version('lycoris-lora')}, torch {torch.__version__}; factors of ones, alpha 1:")
differ = []
for rank in (1, RANK):
    whole, lycoris = by_lycoris(rank)
    peft = by_peft(rank)
    print(f"rank {rank}, second factor {'whole' if whole else 'of low rank'}: lycoris {lycoris:g}, peft {peft:g}")
    differ.append(whole and abs(lycoris - peft) > 1e-6)
sys.exit(0 if any(differ) else "both agree: this has changed")
PYTHON
