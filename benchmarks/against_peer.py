"""The same training step through our code and through the public PRX code, in turns, in one process.

    git clone https://github.com/Photoroom/PRX ../PRX
    pip install muon-fsdp2 omegaconf einops ftfy
    python benchmarks/against_peer.py --peer ../PRX                                    # at a size for a CPU
    python benchmarks/against_peer.py --peer ../PRX --size published --batch 32 --compile              # on a GPU
    python benchmarks/against_peer.py --peer ../PRX --size published --batch 16 --resolution 1024 --compile

Both get the same pictures and captions, equal weights at the start, the same frozen networks (random weights), batch
and precision, and have every part on: TREAD, REPA, LPIPS, DINO, Muon, EMA. First the script shows that the two models
predict the same. peer_prx.py says what of the peer is its own, which is all that computes. What differs: the peer
pads captions to 256 tokens, as published, and ours to the longest; the peer's Muon takes the modulation's matrices too.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import torch
from machine import peak_gib, ratio, record, take_turns
from peer_prx import Peer
from step_time import account_for, whole_step
from workload import SIZES, batches, only, open_state

from daybreak.config import Config
from daybreak.encoders.text import TextTokens
from daybreak.parallel import pick_device
from daybreak.train.pixel import Pixel
from daybreak.train.precision import autocast


def difference(state: Pixel, peer: Peer, config: Config) -> float:
    """Largest difference of the two models' predictions on the same input, pictures in [-1, 1]."""
    g = torch.Generator().manual_seed(1)
    side, length = config.data.resolution, 24
    torch.nn.init.normal_(state.transformer.final.weight, std=0.02)  # it starts at zero, and all else would not show
    for block in state.transformer.blocks:
        torch.nn.init.normal_(block.modulation.linear.weight, std=0.02)
        torch.nn.init.normal_(block.attention.out.weight, std=0.02)
        torch.nn.init.normal_(block.mlp.down.weight, std=0.02)
    peer.load(state.transformer.state_dict())
    x_t, t = torch.randn(2, 3, side, side, generator=g).to(state.device), torch.tensor([0.3, 0.8]).to(state.device)
    words = torch.randn(2, length, state.text_encoder.width, generator=g).to(state.device)
    mask = torch.ones(2, length, dtype=torch.bool, device=state.device)
    mask[1, 9:] = False
    with torch.no_grad(), autocast(config, state.device):
        ours = state.transformer(x_t, t, TextTokens(words, mask)).x0
        theirs = peer.x0(x_t, t, words, mask)
    return float((ours.float() - theirs.float()).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="checkout of github.com/Photoroom/PRX")
    parser.add_argument("--size", choices=("small", "published"), default="small")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--parts", default="all", help="all, none, or of routing+alignment+lpips+dino")
    parser.add_argument("--words", type=int, nargs=2, default=(20, 60), help="least and most words of a caption")
    parser.add_argument("--compile", action="store_true", help="both sides")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument(
        "--muon-every", type=int, default=1, help="our optim.muon_every; a turn is so many steps of each"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-append", action="store_true", help="print only; RESULTS.md stays as it is")
    options = parser.parse_args()
    if not (options.peer / "prx" / "models" / "prx.py").is_file():
        parser.error(f"--peer {options.peer} is no checkout of PRX: prx/models/prx.py is not in it")
    device = pick_device()
    config = only(SIZES[options.size](), options.parts)
    config = replace(
        config,
        data=replace(config.data, resolution=options.resolution or config.data.resolution),
        optim=replace(config.optim, muon_every=options.muon_every),
        train=replace(
            config.train,
            batch=options.batch or config.train.batch,
            compile=options.compile,
            precision=options.precision,
        ),
    )
    state = open_state(config, device)
    peer = Peer(options.peer, config, device, options.compile)
    apart = difference(state, peer, config)
    state.prepare()
    work = batches(config, 4, (options.words[0], options.words[1]))
    ours, theirs = cycle(work), cycle(work)

    def turn(step: Callable[[], None]) -> None:
        for _ in range(options.muon_every):
            step()

    sides = {
        "PRX": lambda: turn(lambda: peer.step(next(theirs))),
        "daybreak": lambda: turn(lambda: whole_step(state, config, next(ours))),
    }
    times = take_turns(sides, device, options.rounds)
    times = {name: [t / options.muon_every for t in values] for name, values in times.items()}
    middle, least, most = ratio(times, "PRX", "daybreak")
    tokens = round(float(state.text_encoder.tokens([c for b in work for c in b.captions])[1].sum(1).float().mean()))
    flops = account_for(config, tokens)
    lines = [
        f"{config.data.resolution} px, batch {config.train.batch}, parts {options.parts}, captions of {tokens} tokens "
        f"on average (the peer pads to {config.text.max_tokens}), {options.rounds} rounds in turns"
        f"{', both compiled' if options.compile else ''}, our optim.muon_every {options.muon_every}. With equal "
        f"weights the two models' predictions differ by at most {apart:.1e}.",
        "",
        "| | s a step (least..most) | images/s | TFLOP/s by our account |",
        "|---|---|---|---|",
    ]
    for name, values in times.items():
        s = statistics.median(values)
        speed = config.train.batch / s
        lines.append(
            f"| {name} | {s:.3f} ({min(values):.3f}..{max(values):.3f}) | {speed:.2f} | {speed * flops / 1e12:.3f} |"
        )
    lines += ["", f"**{middle:.2f} x** the peer's speed (least and most of a round: {least:.2f}..{most:.2f}). "
              f"Peak memory with both in one process: {peak_gib(device):.1f} GiB."]  # fmt: skip
    record(f"Against PRX's training step, size `{options.size}`", lines, device, not options.no_append)


if __name__ == "__main__":
    main()
