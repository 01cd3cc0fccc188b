"""Load on a server over loopback: batching against none, overload, memory, SIGTERM.

    python benchmarks/serving.py RUN [--requests 200] [--threads 2]

Prints Markdown for benchmarks/RESULTS.md. Baseline: the same server with `--batch 1`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import torch

CLIENTS = 8


@contextlib.contextmanager
def serving(run: str, threads: int, *words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own process; its process and address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "daybreak", "serve", run, "--port", "0", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "COLUMNS": "200"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        text = ""
        while not (url := re.search(r"http://\S+:\d+", text)):
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                sys.exit(text)
            text += line
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url[0]}/ready").status_code == 200:
                    break
            time.sleep(0.1)
        yield process, url[0]
    finally:
        process.kill()
        process.wait()


async def load(
    url: str, requests: int, clients: int, **fields: object
) -> tuple[collections.Counter[str], list[float], float]:
    """`clients` clients that together make `requests` requests, each the next one as soon as it has its answer."""
    statuses: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    left = iter(range(requests))

    async def client(http: httpx.AsyncClient) -> None:
        for number in left:
            began = time.perf_counter()
            try:
                body = {"prompt": f"a red circle {number % 50}", "seed": number, **fields}
                answer = await http.post(f"{url}/v1/images/generations", json=body)
                status = str(answer.status_code)
                if status == "200":
                    assert answer.json()["data"][0]["b64_json"]
                    seconds.append(time.perf_counter() - began)
            except httpx.TransportError:
                status = "broken"
            statuses[status] += 1

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=300, limits=limits) as http:
        began = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(clients)))
        return statuses, seconds, time.perf_counter() - began


def batching(run: str, threads: int, requests: int) -> None:
    """Throughput and latency at eight clients; the two servers take turns, so that a busy machine hits both."""
    rates: dict[int, list[float]] = {1: [], 8: []}
    times: dict[int, list[float]] = {1: [], 8: []}
    with serving(run, threads, "--batch", 1) as (_, one), serving(run, threads, "--batch", 8) as (_, eight):
        for _ in range(3):
            for batch, url in ((1, one), (8, eight)):
                statuses, seconds, wall = asyncio.run(load(url, requests, CLIENTS))
                assert statuses == {"200": requests}, statuses
                rates[batch].append(requests / wall)
                times[batch] += seconds
    print(f"| at {CLIENTS} clients | pictures/s (3 rounds) | p50 s | p95 s |\n|---|---|---|---|")
    for batch in (1, 8):
        cuts = statistics.quantiles(times[batch], n=20)
        rounds = ", ".join(f"{r:.1f}" for r in rates[batch])
        print(f"| --batch {batch} | {statistics.mean(rates[batch]):.1f} ({rounds}) | {cuts[9]:.2f} | {cuts[18]:.2f} |")
    print(f"\nBatching against none: {statistics.mean(rates[8]) / statistics.mean(rates[1]):.2f} x\n")


def overload(run: str, threads: int) -> None:
    """Pictures a second with as many clients as there is room for, and with ten times as many requests."""
    ratios = []
    with serving(run, threads, "--batch", 8, "--queue", 8) as (_, url):
        asyncio.run(load(url, 32, 16))  # warm
        for _ in range(3):
            statuses, seconds, wall = asyncio.run(load(url, 96, 16))
            calm = statuses["200"] / wall
            statuses, slow, wall = asyncio.run(flood(url, rate=10 * calm, seconds=12.0))
            ratios.append(statuses["200"] / wall / calm)
            asked, answered = sum(statuses.values()) / wall, statuses["200"] / wall
            print(
                f"- undisturbed {calm:.1f} pictures/s, an answer {statistics.median(seconds):.2f} s; at {asked:.0f} "
                f"requests/s {answered:.1f} pictures/s, {statistics.median(slow):.2f} s; {dict(statuses)}"
            )
        healthy = httpx.get(f"{url}/health").status_code
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"\nOverload against none: {statistics.median(ratios):.2f} x ({shown}); /health afterwards {healthy}\n")


async def flood(url: str, rate: float, seconds: float) -> tuple[collections.Counter[str], list[float], float]:
    """Requests at `rate` a second, whether others were answered or not; what was answered within `seconds`."""
    statuses: collections.Counter[str] = collections.Counter()
    times: list[float] = []

    async def one(http: httpx.AsyncClient, number: int) -> None:
        began = time.perf_counter()
        answer = await http.post(
            f"{url}/v1/images/generations", json={"prompt": f"a red circle {number % 50}", "seed": number}
        )
        statuses[str(answer.status_code)] += 1
        if answer.status_code == 200:
            times.append(time.perf_counter() - began)

    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=None)) as http:
        began = time.perf_counter()
        tasks: set[asyncio.Task[None]] = set()
        number = 0
        while (elapsed := time.perf_counter() - began) < seconds:
            while number < rate * elapsed:
                tasks.add(asyncio.ensure_future(one(http, number)))
                number += 1
            await asyncio.sleep(0.005)
        wall = time.perf_counter() - began
        counted = collections.Counter(statuses)
        await asyncio.gather(*tasks)
    return counted, times, wall


def memory(run: str, threads: int, requests: int = 2000) -> None:
    """Resident memory while requests go by."""
    with serving(run, threads) as (_, url):
        figures = []
        for _ in range(5):
            asyncio.run(load(url, requests // 5, CLIENTS, steps=4, response_format="b64_json"))
            text = httpx.get(f"{url}/metrics").text
            found = re.findall(r"^(?:process_resident|daybreak_drawing)_memory_bytes\S* (\S+)", text, re.M)
            figures.append(sum(map(float, found)))
        shown = ", ".join(f"{f / 2**20:.0f}" for f in figures)
        print(f"Memory after each fifth of {requests} requests, MiB: {shown}\n")


def going_down(run: str, threads: int) -> None:
    """SIGTERM while sixteen requests are accepted."""
    with serving(run, threads) as (process, url):

        async def scenario() -> collections.Counter[str]:
            task = asyncio.ensure_future(load(url, 16, 16, steps=100))
            async with httpx.AsyncClient() as http:
                while True:
                    text = (await http.get(f"{url}/metrics")).text
                    waiting = re.search(r"^daybreak_queue_length\S* (\S+)$", text, re.M)
                    if waiting and float(waiting[1]) >= 8:
                        break
                    await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            return (await task)[0]

        statuses = asyncio.run(scenario())
        print(f"SIGTERM with 16 accepted requests: {dict(statuses)}, exit code {process.wait(60)}\n")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--requests", type=int, default=120)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["batching", "overload", "memory", "sigterm"])
    a = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {a.threads} threads\n")
    parts = {
        "batching": lambda: batching(a.run, a.threads, a.requests),
        "overload": lambda: overload(a.run, a.threads),
        "memory": lambda: memory(a.run, a.threads),
        "sigterm": lambda: going_down(a.run, a.threads),
    }
    for name, part in parts.items():
        if a.only in (None, name):
            part()


if __name__ == "__main__":
    main()
