"""The most memory that a process had."""

from __future__ import annotations

import sys
from pathlib import Path


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
