"""A checkout of PRX's repository: whether it is one, and which. Needs no torch."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from daybreak.config import ConfigError

FILES = ("prx/models/prx.py", "prx/models/prx_layers.py")
"""What of it is run."""
PACKAGES = ("einops", "omegaconf")
"""What these files import beside torch."""


def checkout_digest(checkout: Path) -> str:
    """sha256 of what is run of it. ConfigError where that is not there, or cannot be imported for want of a package."""
    missing = [name for name in FILES if not (checkout / name).is_file()]
    if missing:
        raise ConfigError(f"--peer-checkout {checkout} is no checkout of Photoroom/PRX: {missing[0]} is not in it")
    if absent := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(f"--peer-checkout: PRX's denoiser needs more packages: pip install {' '.join(absent)}")
    return hashlib.sha256(b"\0".join((checkout / name).read_bytes() for name in FILES)).hexdigest()
