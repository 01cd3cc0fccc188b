"""What the benchmarks of a training step share: the clock, the machine's own limits, and a place for figures."""

from __future__ import annotations

import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}
"""What torch's table of FLOPs leaves out (findings/flop_counter_cpu.sh)."""
RESULTS = Path(__file__).parent / "RESULTS.md"


def _commit() -> str:
    """The commit that is measured, marked where the code differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "../daybreak")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (", with changes" if changed else "")


COMMIT = _commit()  # at the start: the code may change while it is measured


def now(device: torch.device) -> float:
    """Seconds, after the device is done: the process's CPU time on one CPU thread, which other work does not change."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median time of `work` over `rounds`, after one that warms up."""
    work()
    times = []
    for _ in range(rounds):
        began = now(device)
        work()
        times.append(now(device) - began)
    return statistics.median(times)


def take_turns(
    contestants: dict[str, Callable[[], object]], device: torch.device, rounds: int
) -> dict[str, list[float]]:
    """Times of each contestant, s, in rounds in which all take turns, so that a busy machine slows all alike.

    Every second round goes through them backwards. One round ahead warms up and is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        order = list(contestants.items())
        for name, work in order if number % 2 else order[::-1]:
            began = now(device)
            work()
            if number:
                times[name].append(now(device) - began)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> tuple[float, float, float]:
    """(median, least, most) over rounds of the time of `slow` over that of `fast` in the same round."""
    ratios = [a / b for a, b in zip(times[slow], times[fast], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large matrix product: what every product could reach at best."""
    n = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, device, 10)


def memory_rate(device: torch.device) -> float:
    """Bytes/s of copying an array far larger than any cache: one read and one write for each byte of it."""
    source = torch.empty(2**28 if device.type == "cuda" else 2**25, device=device)
    source.fill_(1.0)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), device, 10)


class Traffic(TorchDispatchMode):
    """Counts the bytes that every operation would read and write if none were fused and no cache helped."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for x in tree_leaves((args, kwargs, result)):
                if isinstance(x, Tensor):
                    # A dimension that is only repeated (stride 0) is in memory once.
                    stored = [n for n, stride in zip(x.shape, x.stride(), strict=True) if stride]
                    self.bytes += x.element_size() * int(torch.Size(stored).numel())
        return result


def count(work: Callable[[], Any]) -> tuple[Any, int, int]:
    """(what `work` returns, FLOPs of its matrix products and convolutions, bytes as `Traffic` counts them)."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as flops, Traffic() as traffic:
        result = work()
    return result, flops.get_total_flops(), traffic.bytes


def reset_peak(device: torch.device) -> None:
    """Memory is measured from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forgets the most that the process held so far


def peak_gib(device: torch.device) -> float:
    """Most memory held since `reset_peak`, GiB: of the GPU's allocator, or of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(s.split()[1]) for s in status.read_text().splitlines() if s.startswith("VmHWM")) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def describe(device: torch.device) -> str:
    """Hardware, versions and commit, on one line."""
    if device.type == "cuda":
        where = f"one {torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        capability = torch.backends.cpu.get_cpu_capability()
        where = f"{_processor()}, {torch.get_num_threads()} threads, {capability}; CPU time if one thread"
    return f"{where}; Python {platform.python_version()}, torch {torch.__version__}; commit {COMMIT}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def record(title: str, lines: list[str], device: torch.device, append: bool) -> None:
    """Prints a section of Markdown and, where asked, puts it into RESULTS.md, before older ones of its title."""
    words = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    head = [f"## {title}", "", f"{date.today()}. {describe(device)}.", "", f"    python benchmarks/{words}", ""]
    text = "\n".join(head + lines) + "\n"
    print(text)
    if append:
        before, older, after = RESULTS.read_text(encoding="utf-8").partition(f"\n## {title}\n")
        RESULTS.write_text(f"{before}\n{text}{older}{after}", encoding="utf-8")
