"""The order of the rooms: each imports only what stands before it. `if TYPE_CHECKING` and late imports count too."""

from __future__ import annotations

import ast
from pathlib import Path

import daybreak

FLOORS = [
    "compiler", "finite", "phases", "terminal", "tables", "config", "extras", "hub_models", "files", "library_messages",
    "html", "checkpoint_files", "model_folder", "run_folder", "run_requests", "run_notes", "caption_words", "allocator",
    "products", "cpu", "attention", "parallel", "recipes", "optim", "data", "encoders", "diffusion", "model",
    "sampling", "formats", "losses", "evaluate", "train", "display", "watch", "finetune", "history", "plan",
    "arguments", "export", "subjects", "ablate", "track", "distill", "box", "launch", "vote", "prefer", "serve",
    "commands", "cli", "__main__",
]  # fmt: skip
"""From the ground up."""

ROOT = Path(daybreak.__file__).parent


def imported(file: Path) -> set[str]:
    """The rooms of daybreak that a file imports from."""
    nodes = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {f"{n.module}.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
    rooms = {name.split(".")[1] for name in names if name.startswith("daybreak.")}
    return {room for room in rooms if (ROOT / room).is_dir() or (ROOT / f"{room}.py").is_file()}


def test_no_room_imports_from_one_above_it():
    files = [f for f in ROOT.rglob("*.py") if f.parent != ROOT or f.stem != "__init__"]
    climbs = [
        f"{file.relative_to(ROOT)} imports from {room}"
        for file in files
        for room in imported(file)
        if FLOORS.index(room) > FLOORS.index(file.relative_to(ROOT).parts[0].removesuffix(".py"))
    ]
    assert not climbs, climbs
