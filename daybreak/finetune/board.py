"""TensorBoard beside what train/watch.py writes there: learning rate, probes, pictures of the inside, advice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


class Board:
    """Also appends probes to RUN/probes.jsonl, one line each."""

    def __init__(self, run: Path, purge_from: int | None) -> None:
        # Imported here: it takes a second that `daybreak --help` need not wait for.
        from torch.utils.tensorboard import SummaryWriter

        self._path = run / "probes.jsonl"
        if self._path.exists():
            lines = self._path.read_text().splitlines() if purge_from is not None else []
            kept = [line for line in lines if json.loads(line)["step"] <= (purge_from or 0)]
            self._path.write_text("".join(line + "\n" for line in kept))
        self._board = SummaryWriter(run / "tensorboard", purge_step=purge_from)

    def on_step(self, step: int, rates: list[float], epochs: float) -> None:
        """After each step; `rates` are the learning rates of denoiser and text encoder."""
        for name, rate in zip(("learning_rate", "learning_rate/text"), rates, strict=False):
            self._board.add_scalar(name, rate, step)
        self._board.add_scalar("epochs", epochs, step)

    def on_probes(self, step: int, losses: dict[str, float], start: dict[str, float], drift: float | None) -> None:
        """Losses on fixed noise, and their change against the base's; how far general pictures moved."""
        for name, loss in losses.items():
            self._board.add_scalar(f"probe/{name}", loss, step)
            self._board.add_scalar(f"probe/{name}_change", loss / start[name] - 1, step)
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **losses, **({} if drift is None else {"drift": drift})}) + "\n")
        if drift is not None:
            self._board.add_scalar("probe/drift", drift, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """A PNG."""
        with Image.open(path) as image:
            self._board.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def text(self, name: str, text: str, step: int) -> None:
        """A line."""
        self._board.add_text(name, text, step)

    def close(self) -> None:
        """Flushes and closes."""
        self._board.close()
