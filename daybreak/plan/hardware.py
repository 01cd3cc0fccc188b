"""What GPUs can do, by their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass

from daybreak.config import ConfigError, did_you_mean

GB = 1e9
NODE = 8
"""GPUs of a node, where nothing else is said."""


@dataclass(frozen=True)
class Gpu:
    """flops: dense bfloat16 FLOP/s. memory: bytes. within, between: bytes/s that one GPU sends inside its node and to
    another one."""

    name: str
    flops: float
    memory: float
    within: float
    between: float


GPUS = {
    g.name: g
    for g in (
        Gpu("a100", 312e12, 80 * GB, 300 * GB, 25 * GB),
        Gpu("h100", 989e12, 80 * GB, 450 * GB, 50 * GB),
        Gpu("h200", 989e12, 141 * GB, 450 * GB, 50 * GB),
        Gpu("b200", 2250e12, 180 * GB, 900 * GB, 50 * GB),
        Gpu("mi300x", 1307e12, 192 * GB, 448 * GB, 50 * GB),
        Gpu("l40s", 362e12, 48 * GB, 32 * GB, 12.5 * GB),
        Gpu("4090", 165e12, 24 * GB, 32 * GB, 12.5 * GB),
    )
}
MATMUL_SHARE = 0.7
"""What large matrix products reach of the data sheet's figure."""
EFFICIENCY = 0.6
"""What training reaches of that, where nothing has been measured: 42 % of the data sheet's figure in all."""


def find_gpu(name: str) -> Gpu | None:
    """The GPU of that name, None for "cpu", this computer; ConfigError with the nearest name where it is not known."""
    if name.lower() == "cpu":
        return None
    if name.lower() not in GPUS:
        hint = did_you_mean(name.lower(), GPUS)
        raise ConfigError(f"--gpu {name}: known are {', '.join(GPUS)} and cpu{hint}")
    return GPUS[name.lower()]
