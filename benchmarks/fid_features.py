"""Pictures a second, and memory, of feature extraction over many pictures at 512 px.

    python benchmarks/fid_features.py --count 10000                    # a small network: reading and resizing dominate
    python benchmarks/fid_features.py --count 10000 --network large    # the size of DINOv2-L, for a GPU

Baseline of the ratio: the same pictures decoded, resized and judged one after the other, on one thread.
"""

from __future__ import annotations

import argparse
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from daybreak.data.listing import Item
from daybreak.evaluate.features.extract import extract
from daybreak.evaluate.features.networks import DinoV2, Inception, Network
from daybreak.evaluate.pictures import PictureFolder, read_picture
from daybreak.parallel import Ranks, pick_device

DISTINCT, SIDE = 200, 512


class Small(nn.Module):
    """Inception's interface and number of features, with hardly any arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 128, 23, stride=23), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())

    def forward(self, img: Tensor, return_features: bool = True, no_output_bias: bool = False) -> Tensor:
        assert return_features and not no_output_bias
        return self.layers((img - 128) / 128)


def write_photos(folder: Path) -> list[Item]:
    """JPEGs of 512 px with the size and detail of photographs."""
    rng = np.random.default_rng(0)
    for i in range(DISTINCT):
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).resize((SIDE, SIDE))
        grain = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).filter(
            ImageFilter.GaussianBlur(1)
        )
        Image.blend(coarse, grain, 0.3).save(folder / f"{i}.jpg", quality=92)
    return [Item(folder / f"{i}.jpg", "") for i in range(DISTINCT)]


def open_network(name: str, folder: Path, device: torch.device) -> Network:
    """The small TorchScript network, or one of DINOv2-L's size with random weights."""
    if name == "small":
        torch.jit.script(Small().eval()).save(str(folder / "small.pt"))
        return Inception(folder / "small.pt", device, print)
    from transformers import Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16)).save_pretrained(
        folder / "l"
    )
    return DinoV2(str(folder / "l"), device)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--network", choices=("small", "large"), default="small")
    options = parser.parse_args()
    device = pick_device()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        distinct = write_photos(folder)
        network = open_network(options.network, folder, device)
        # Every picture is decoded anew each time that it occurs.
        items = (distinct * (options.count // DISTINCT + 1))[: options.count]
        seen, marks = 0, {}

        def on_batch(n: int) -> None:
            nonlocal seen
            seen += n
            for share in (0.1, 0.5, 1.0):
                if seen >= share * options.count:
                    marks.setdefault(share, peak_mib())

        few = min(options.count, 200)
        began = time.perf_counter()
        with torch.no_grad():
            for item in items[:few]:
                network.features(network.prepare(read_picture(item.path))[None].to(device)).cpu()
        baseline = few / (time.perf_counter() - began)
        began = time.perf_counter()
        found = extract(PictureFolder(folder, items), network, device, Ranks(), progress=on_batch)
        speed = options.count / (time.perf_counter() - began)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
    print(f"{where}, torch {torch.__version__}, {torch.get_num_threads()} threads, network {options.network}")
    print(f"{options.count} pictures of {SIDE} px, {found.features.shape[1]} features: {speed:.0f} pictures/s")
    print(f"one after the other (baseline): {baseline:.0f} pictures/s; ratio {speed / baseline:.2f}")
    print("peak memory, MiB, after 10, 50 and 100 %:", ", ".join(f"{marks[s]:.0f}" for s in (0.1, 0.5, 1.0)))


if __name__ == "__main__":
    main()
