"""Main memory of a process: the most that it had, and keeping what is freed."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's malloc.h."""
LARGE = 2**30


def process_peak_bytes() -> int:
    """Most resident memory of this process so far, bytes.

    Linux counts in `ru_maxrss` also what the process that started this one held, since both share its memory until the
    new program is loaded; VmHWM begins with the program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def keep_freed_memory() -> None:
    """Tells glibc's allocator to keep large blocks that are freed for the next ones of their size.

    By default it gives them back to the system, which then hands out new pages and clears them: 6,000 at every step of
    the recipe `scenes`, a tenth of its time. Nothing is done where the C library is another one.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, LARGE)
        library.mallopt(M_TRIM_THRESHOLD, LARGE)
