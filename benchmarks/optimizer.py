"""Time of a Muon step per parameter, against torch.optim.Muon and the public muon-fsdp2.

    pip install muon-fsdp2                                   # left out where it is missing
    python benchmarks/optimizer.py                           # the matrices of 4 blocks, 384 wide
    python benchmarks/optimizer.py --width 1792 --depth 16   # the published model's, on a GPU

All update the same matrices (a block's: QKV, text KV, out, gate and up, down) from the same gradients, with Nesterov
momentum 0.95, 5 Newton-Schulz steps and the step matched to AdamW's; torch's works in bfloat16, which it emulates
where the hardware does not multiply it, so that on such a CPU it also stands there with that taken out. muon-fsdp2
0.3.0 lacks a function that its single-device path calls; peer_prx.py makes it of its own parts.
"""

from __future__ import annotations

import argparse
import statistics
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from machine import ratio, record, take_turns
from torch import nn

from daybreak.config import Config
from daybreak.optim.muon import Muon
from daybreak.parallel import pick_device
from daybreak.train.precision import muon_dtype


def matrices(width: int, depth: int, device: torch.device) -> list[nn.Parameter]:
    """A transformer's matrices with gradients, the same at each call."""
    g = torch.Generator().manual_seed(0)
    hidden = int(3.5 * width)
    shapes = [(3 * width, width), (2 * width, width), (width, width), (2 * hidden, width), (width, hidden)]
    made = []
    for shape in shapes * depth:
        p = nn.Parameter((0.02 * torch.randn(shape, generator=g)).to(device))
        p.grad = torch.randn(shape, generator=g).to(device)
        made.append(p)
    return made


def public_muon(params: list[nn.Parameter], dtype: torch.dtype) -> torch.optim.Optimizer:
    import muon_fsdp2
    from peer_prx import Peer

    Peer._complete_muon(SimpleNamespace(dtype=dtype), muon_fsdp2)  # type: ignore[arg-type]
    group: dict[str, Any] = {"params": params, "use_muon": True, "lr": 1e-3, "momentum": 0.95, "rms_scale": True}
    return muon_fsdp2.Muon([group])


def in_float32(step: Any) -> Any:
    """`step` of torch's Muon, whose Newton-Schulz casts to bfloat16, with that cast left out."""

    def run() -> None:
        with mock.patch.object(torch.Tensor, "bfloat16", lambda x: x):
            step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-append", action="store_true", help="print only; RESULTS.md stays as it is")
    options = parser.parse_args()
    device = pick_device()
    dtype = muon_dtype(Config(), device)

    def params() -> list[nn.Parameter]:
        return matrices(options.width, options.depth, device)

    ours = Muon(params(), lr=1e-3, dtype=dtype)
    polar = Muon(params(), lr=1e-3, polynomials="polar_express", dtype=dtype)
    torchs = torch.optim.Muon(
        params(), lr=1e-3, momentum=0.95, nesterov=True, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
    )
    name = "torch.optim.Muon" + (", in float32" if dtype == torch.float32 else "")
    contestants: dict[str, Any] = {
        name: in_float32(torchs.step) if dtype == torch.float32 else torchs.step,
        "daybreak": ours.step,
        "daybreak, Polar Express": polar.step,
    }
    if dtype == torch.float32:
        contestants["torch.optim.Muon, emulated bfloat16"] = torch.optim.Muon(
            params(), lr=1e-3, momentum=0.95, nesterov=True, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        ).step
    try:
        contestants["muon-fsdp2, on one device"] = public_muon(params(), dtype).step
    except ImportError as e:
        print(f"{e.name} is not installed; muon-fsdp2 is left out")
    times = take_turns(contestants, device, options.rounds)
    ours_after, theirs_after = (torch.cat([p.flatten() for p in o.param_groups[0]["params"]]) for o in (ours, torchs))
    apart = float((ours_after - theirs_after).norm() / theirs_after.norm())
    count = sum(p.numel() for p in ours.param_groups[0]["params"])
    lines = [
        f"{count / 1e6:.1f} M parameters in {5 * options.depth} matrices, {str(dtype).split('.')[1]}, {options.rounds} "
        f"rounds in turns. After {options.rounds + 1} updates our and torch's weights differ by {apart:.1e} of their "
        "norm.",
        "",
        "| | ns a parameter (least..most) | ratio |",
        "|---|---|---|",
    ]
    for who, values in times.items():
        each = [1e9 * v / count for v in values]
        middle = ratio(times, name, who)[0]
        lines.append(f"| {who} | {statistics.median(each):.2f} ({min(each):.2f}..{max(each):.2f}) | {middle:.2f} |")
    record("A step of Muon", lines, device, not options.no_append)


if __name__ == "__main__":
    main()
