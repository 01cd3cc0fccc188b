"""The file of a teacher that `daybreak teach` trains: its name and place, and what it says. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from daybreak.config import ConfigError

EMBEDDED = "embedded"
"""What settings call the package's own."""
WEIGHTS = Path(__file__).parent / "embedded_teacher.safetensors"
TRAINING_SECONDS = "training_seconds"
"""Key under which the weights' file says how long the teacher was trained."""
RESOLUTION = 32
"""Side of what the network is shown; larger pictures are shrunk to between this and their own, and cut."""


def taught_file(name: str) -> Path | None:
    """The weights, where a setting names the embedded teacher or a file of `daybreak teach`; None: another kind."""
    if name == EMBEDDED:
        return WEIGHTS
    return Path(name).expanduser() if name.endswith(".safetensors") else None


def training_seconds(path: Path = WEIGHTS) -> float | None:
    """How long the teacher in `path` was trained, s; None where the file does not say. ConfigError: no such file."""
    try:
        with safe_open(path, "np") as file:
            said = (file.metadata() or {}).get(TRAINING_SECONDS)
    except (OSError, SafetensorError) as e:
        raise no_teacher(path, e) from None
    return None if said is None else float(said)


def no_teacher(path: Path, reason: Exception) -> ConfigError:
    """What is wrong with a teacher's file, in a line."""
    if not path.is_file():
        return ConfigError(f"{path}: no such file; `daybreak teach --out {path}` would write a teacher there")
    return ConfigError(f"{path} is no teacher of this version: {' '.join(str(reason).split())[:200]}")


def make_room(out: Path) -> None:
    """Makes the folder of `out`; ConfigError where the weights cannot be written there. To be asked first."""
    if out.suffix != ".safetensors":
        raise ConfigError(
            f"--out {out}: the weights are written as safetensors, so the name should end in .safetensors"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"--out {out} cannot be written: {e.strerror}") from None
