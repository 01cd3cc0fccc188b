"""How fast a recipe trains on a number of GPUs, how long its ranks talk to each other, and what it costs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from daybreak.config import Config, ConfigError, stage_at
from daybreak.history.read import read
from daybreak.model.transformer import Transformer
from daybreak.optim.groups import split_parameters
from daybreak.plan.account import StagePlan, account
from daybreak.plan.hardware import EFFICIENCY, MATMUL_SHARE, NODE, Gpu, find_gpu
from daybreak.plan.memory import Memory, memory_of
from daybreak.train.meters import matmul_rate
from daybreak.train.precision import multiplies_bfloat16

HIDDEN = 0.8
"""Share of the communication that goes on beside the computation (FSDP gathers a block ahead)."""


@dataclass(frozen=True)
class Pace:
    """How long a step's work takes: (FLOPs / efficiency + lost x values) / the rate of matrix products.

    efficiency: what training's products reach of that rate; lost: how many FLOPs could be done in the time that each
    value takes which other operations write. In FLOPs, so that a measurement speaks for faster machines too.
    """

    efficiency: float
    lost: float = 0.0

    def flops(self, work: float, values: float) -> float:
        """The step's time, in FLOPs that products could do in it."""
        return work / self.efficiency + self.lost * values

    @classmethod
    def measured(cls, work: float, values: float, spent: float) -> Pace:
        """Of a step that took as long as `spent` FLOPs of products: what they do not take is the other operations'."""
        if spent <= work:  # faster than the products that were measured, in fewer bits
            return cls(work / spent)
        return cls(1.0, (spent - work) / values)


@dataclass(frozen=True)
class Machines:
    """gpus in nodes of at most `node`; flops: what matrix products reach on one, FLOP/s; pace: how training goes beside
    them, and `source`, where that comes from."""

    gpu: Gpu | None
    gpus: int
    node: int
    flops: float
    pace: Pace
    source: str

    @property
    def shards(self) -> int:
        """GPUs that share one copy of the weights."""
        return min(self.node, self.gpus)


@dataclass(frozen=True)
class StageForecast:
    """One stage. Seconds a step: computing, talking; images_per_second of all GPUs; memory of one."""

    plan: StagePlan
    compute: float
    talk: float
    memory: Memory | None

    @property
    def step(self) -> float:
        """Seconds of a whole step."""
        return max(self.compute, HIDDEN * self.talk) + (1 - HIDDEN) * self.talk

    @property
    def images_per_second(self) -> float:
        """Of all GPUs together."""
        return self.plan.config.train.batch / self.step


def machines(gpu: str, gpus: int, node: int | None, calibration: Path | None) -> Machines:
    """The machines that --gpu, --gpus and --node name, as fast as the run `calibration` was, or as estimated.

    "cpu": this computer. Raises ConfigError for an unknown GPU, or a run that measured nothing.
    """
    pace, source = Pace(EFFICIENCY), "an estimate: nothing has been measured"
    if calibration is not None:
        pace, source = measured_pace(calibration), f"measured by {calibration}"
    node = node or min(NODE, gpus)
    found = find_gpu(gpu)
    if found is None:
        cpu = torch.device("cpu")
        rate = statistics.median(matmul_rate(multiplies_bfloat16(cpu), cpu) for _ in range(5))
        return Machines(None, gpus, node, rate, pace, source)
    return Machines(found, gpus, node, MATMUL_SHARE * found.flops, pace, source)


def measured_pace(run: Path) -> Pace:
    """How a run went beside the matrix products' rate that it measured at its start; all parts of a step count."""
    history = read(run)
    rows = [s for s in history.steps if "matmul_tflops" in s["measured"]]
    if not rows:
        raise ConfigError(f"--calibration {run}: it measured nothing; it needs at least train.watch_every steps")
    plans = account(history.config, round(rows[-1]["measured"]["text_tokens"]))
    found = []
    for s in rows[len(rows) // 4 :]:  # the first are slower: caches, compilation
        m = s["measured"]
        plan, ranks = plans[stage_at(history.config, s["progress"])], round(m["processes"])
        batch = plan.config.train.batch
        spent = 1e12 * m["matmul_tflops"] * batch / s["images_per_second"]
        work = work_of(plan, ranks, min(ranks, history.config.train.shard or NODE))
        found.append((spent / work, work, plan.values * batch / ranks, spent))
    _, work, values, spent = sorted(found)[len(found) // 2]
    return Pace.measured(work, values, spent)


def forecast(config: Config, on: Machines, text_tokens: int | None) -> list[StageForecast]:
    """Each stage's."""
    length = text_tokens or config.text.max_tokens
    return [_stage(plan, on, length) for plan in account(config, text_tokens)]


def work_of(plan: StagePlan, gpus: int, shards: int) -> float:
    """FLOPs of one GPU in a step: its pictures, and its share of Newton-Schulz."""
    newton = sum(5 * 2 * (2 * min(s) ** 2 * max(s) + min(s) ** 3) for s in _matrices(plan))
    return plan.training * plan.config.train.batch / gpus + newton / shards


def _matrices(plan: StagePlan) -> list[torch.Size]:
    """Shapes of the transformer's matrices that Muon trains."""
    c = plan.config
    if c.optim.matrices == "adamw":
        return []
    with torch.device("meta"):
        transformer = Transformer(c.model, plan.text_width, c.routing)
    return [p.shape for p in split_parameters({"transformer": transformer})[0].values()]


def _stage(plan: StagePlan, on: Machines, text_tokens: int) -> StageForecast:
    values = plan.values * plan.config.train.batch / on.gpus
    compute = on.pace.flops(work_of(plan, on.gpus, on.shards), values) / on.flops
    trained = sum(p.parameters for p in plan.parts if p.trained)
    talk = _talk(on, trained, sum(rows * columns for rows, columns in _matrices(plan)))
    memory = memory_of(plan, plan.text_width, text_tokens, on.shards) if on.gpu else None
    return StageForecast(plan, compute, talk, memory)


def _talk(on: Machines, trained: int, matrices: int) -> float:
    """Seconds of communication a step: weights gathered twice in bfloat16, gradients scattered in float32, Muon's
    matrices exchanged there and back; then, between nodes, the sharded gradients summed (a ring sends them twice)."""
    if on.gpu is None or on.gpus == 1:
        return 0.0
    n = on.shards
    within = (2 * 2 + 4) * trained * (n - 1) / n + 2 * 2 * matrices * (n - 1) / n**2
    copies = on.gpus // n
    between = 2 * 4 * trained / n * (copies - 1) / copies
    return within / on.gpu.within + between / on.gpu.between
