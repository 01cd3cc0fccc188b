"""Kernels for training on a CPU, compiled once with the machine's own C compiler and kept in the user's cache.

Nothing fuses torch's operations on a CPU: half of a step of a small model is passes over memory between its matrix
products. kernels.c makes one pass of each group of them; functions.py gives them to autograd. Without a
compiler, and on other systems than Linux, the plain forms do the same in a third more time, which is said once.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daybreak.files import cache_folder

log = logging.getLogger("daybreak")

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = [
    "-std=gnu11", "-O3", "-march=native", "-fopenmp", "-fPIC",
    # What sums need to be vectorised; numbers that are none stay so, which the guard against bad steps looks for.
    "-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros",
]  # fmt: skip
TYPES = {torch.float32: "FLOAT32", torch.bfloat16: "BFLOAT16", torch.float64: "FLOAT64"}


def in_training(x: Tensor) -> bool:
    """Whether the kernels are the ones for x, and gradients are taken."""
    return torch.is_grad_enabled() and usable(x)


def usable(x: Tensor) -> bool:
    """Whether the kernels are the ones for x: on a CPU, and not in a compiled graph, which fuses by itself."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return x.dtype in TYPES and type(x) in (Tensor, torch.nn.Parameter) and _library(x.dtype) is not None


def call(name: str, dtype: torch.dtype, *args: Tensor | int | float | None) -> None:
    """Calls a kernel for tensors of `dtype`; tensors lie contiguous in memory, None is a null pointer."""
    library = _library(dtype)
    assert library is not None
    values: list[Any] = []
    for arg in args:
        if arg is None or isinstance(arg, Tensor):
            values.append(ctypes.c_void_p(None if arg is None else arg.data_ptr()))
        else:
            values.append(ctypes.c_double(arg) if isinstance(arg, float) else ctypes.c_longlong(arg))
    getattr(library, name)(*values)


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    compiler = _compiler()
    if compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_built(compiler, TYPES[dtype])))
    except (OSError, subprocess.SubprocessError) as e:
        said = getattr(e, "stderr", None) or str(e)
        log.warning(
            "%s makes no kernels for this CPU, so that training takes a third longer: %s",
            shlex.join(compiler), " ".join(said.split())[:200],
        )  # fmt: skip
        return None


@functools.cache
def _compiler() -> list[str] | None:
    if sys.platform != "linux":
        return None
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    if (found := next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)) is None:
        log.warning("no C compiler is here (cc, or $CC): training on this CPU takes a third longer")
        return None
    return [found]


def _built(compiler: Sequence[str], kind: str) -> Path:
    """The library, from the cache or compiled into it: one for each type, source, compiler and CPU.

    It is linked without an OpenMP library, and takes the one that torch has loaded: two would be two teams of threads,
    which keep each other from their cores.
    """
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    cpu = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    traits = [line for line in cpu.splitlines() if line.startswith(("model name", "flags", "Features", "CPU part"))]
    key = hashlib.sha256(repr([SOURCE.read_text(), kind, FLAGS, compiler, version, traits]).encode()).hexdigest()[:16]
    path = cache_folder() / "kernels" / f"{key}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made, library = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
        for words in (
            ["-c", str(SOURCE), f"-D{kind}", *FLAGS, "-o", str(made)],
            ["-shared", str(made), "-o", str(library)],
        ):
            subprocess.run([*compiler, *words], capture_output=True, text=True, check=True)
        ctypes.CDLL(str(library))  # what does not load is not kept
        library.replace(path)
    return path
