"""Post-hoc EMA: averages whose length is chosen after training (EDM2, arXiv 2312.02696, section 3).

During training a few power-function averages are kept and their snapshots stored. Afterwards any other length is had as
a weighted sum of snapshots, since a power function is well fitted by others of other lengths and ends.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from daybreak.parallel import full, local
from daybreak.run_folder import AVERAGES, stored_averages


def gamma_of(length: float) -> float:
    """The exponent whose average has the relative length sigma_rel = `length`, in (0, 0.28] (EDM2, eq. 123-126)."""
    # sigma^2 = (g + 1) / ((g + 2)^2 (g + 3)), a cubic in g with one positive root.
    t = length**-2
    return float(np.roots([1, 7, 16 - t, 12 - t]).real.max())


def decay_at(update: int, gamma: float) -> float:
    """Decay at update number `update` (from 0): (1 - 1 / t)^(gamma + 1) with t = update + 1 (EDM2, eq. 127)."""
    return (1 - 1 / (update + 1)) ** (gamma + 1)


class PowerAverages:
    """The running averages of several lengths, as flat tensors by name."""

    def __init__(self, lengths: tuple[float, ...], tensors: dict[str, Tensor]) -> None:
        self.lengths = lengths
        self.tensors = {length: {k: v.detach().clone().float() for k, v in tensors.items()} for length in lengths}

    @torch.no_grad()
    def update(self, networks: dict[str, nn.Module], update: int) -> None:
        """Draws every average towards the networks' present weights; `update` counts from 0."""
        now = named_tensors(networks)
        for length, average in self.tensors.items():
            weight = 1 - decay_at(update, gamma_of(length))
            torch._foreach_lerp_([local(average[k]) for k in now], [local(v) for v in now.values()], weight)

    def snapshot(self, run: Path, update: int, write: bool = True) -> None:
        """Stores each average as it stands, in float16, under RUN/averages. Called by every rank; one `write`s."""
        (run / AVERAGES).mkdir(exist_ok=True)
        for length, average in self.tensors.items():
            path = run / AVERAGES / f"length-{length:g}-update-{update:08d}.safetensors"
            whole = {k: full(v.half()).contiguous() for k, v in average.items()}
            if write:
                save_file(whole, path)


def named_tensors(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Every parameter by the name of its network and its own; tied ones once."""
    return {f"{part}.{k}": v for part, network in networks.items() for k, v in network.named_parameters()}


def inner_product(end_a: np.ndarray, gamma_a: np.ndarray, end_b: np.ndarray, gamma_b: np.ndarray) -> np.ndarray:
    """Of two power-function profiles, over training time (EDM2, algorithm 3): arrays that broadcast."""
    ratio = end_a / end_b
    exponent = np.where(end_a < end_b, gamma_b, -gamma_a)
    return (gamma_a + 1) * (gamma_b + 1) * ratio**exponent / ((gamma_a + gamma_b + 1) * np.maximum(end_a, end_b))


def solve_weights(ends: np.ndarray, gammas: np.ndarray, end: float, gamma: float) -> np.ndarray:
    """Weights of the snapshots (`ends`, `gammas`, [n] each) whose sum is closest to the wanted profile: [n]."""
    a = inner_product(ends[:, None], gammas[:, None], ends[None], gammas[None])
    b = inner_product(ends, gammas, np.asarray(end), np.asarray(gamma))
    return np.linalg.lstsq(a, b, rcond=None)[0]


def reconstruct(run: Path, length: float) -> dict[str, Tensor]:
    """The average of relative length `length` at the end of the run, from its snapshots, by name.

    Raises ConfigError where the run stored none, and for a length outside 0.01..0.25.
    """
    paths = stored_averages(run)
    stored = [p.stem.split("-") for p in paths]
    ends = np.array([float(s[3]) for s in stored])
    gammas = np.array([gamma_of(float(s[1])) for s in stored])
    weights = solve_weights(ends, gammas, ends.max(), gamma_of(length))
    total: dict[str, Tensor] = {}
    for path, weight in zip(paths, weights, strict=True):
        for k, v in load_file(path).items():
            total[k] = total.get(k, torch.zeros_like(v, dtype=torch.float32)) + float(weight) * v.float()
    return total
