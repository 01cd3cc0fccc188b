"""Where a run's curves and pictures are drawn: TensorBoard always, and the trackers that the config asks for.

All of them are given the same (`LogFiles` in watch.py says what); one that fails ends alone, and says so.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

MOST_PNG_BYTES = 500_000
"""A larger picture goes to TensorBoard as JPEG: the checksum of its files is plain Python, 4 MB of it a second, and the
steps wait for it. The PNG in the run folder is untouched."""


class Board(Protocol):
    """Draws curves and shows pictures. Its methods may raise whatever its library raises."""

    name: str

    def config(self, settings: Mapping[str, Any]) -> None:
        """Shows every setting of the run, as its file has them."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One point for each curve."""

    def picture(self, name: str, path: Path, step: int) -> None:
        """Shows a PNG."""

    def text(self, name: str, text: str, step: int) -> None:
        """Shows a line."""

    def close(self) -> None:
        """Writes or sends what still waits."""


class TensorBoard:
    """RUN/tensorboard. A resumed run goes on in it; what was drawn after `resumed_from` is hidden."""

    name = "TensorBoard"

    def __init__(self, run: Path, resumed_from: int | None) -> None:
        # Imported here: it takes a second that `daybreak --help` need not wait for.
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resumed_from is None else resumed_from + 1
        self._writer = SummaryWriter(run / "tensorboard", purge_step=purge)

    def config(self, settings: Mapping[str, Any]) -> None:
        """As a text."""
        self._writer.add_text("config", f"```yaml\n{yaml.safe_dump(dict(settings), sort_keys=False)}```")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """See `Board`."""
        # `add_image` takes pixels, and encodes them once more, which takes as long as drawing them.
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        data = path.read_bytes()
        image: Image.Image = Image.open(io.BytesIO(data))
        if len(data) > MOST_PNG_BYTES:
            image, encoded = image.convert("RGB"), io.BytesIO()
            image.save(encoded, "JPEG", quality=90)
            data = encoded.getvalue()
        shown = Summary.Image(
            encoded_image_string=data, width=image.width, height=image.height, colorspace=len(image.getbands())
        )
        file: Any = self._writer._get_file_writer()
        file.add_summary(Summary(value=[Summary.Value(tag=name, image=shown)]), step)

    def text(self, name: str, text: str, step: int) -> None:
        """See `Board`."""
        self._writer.add_text(name, text, step)

    def close(self) -> None:
        """See `Board`."""
        self._writer.close()


class Boards:
    """Several as one. `on_trouble` is told once of each that fails; nothing more is drawn there."""

    def __init__(self, boards: list[Board], on_trouble: Callable[[str], None]) -> None:
        self._boards, self._on_trouble = boards, on_trouble

    def config(self, settings: Mapping[str, Any]) -> None:
        """See `Board`."""
        self._each(lambda b: b.config(settings))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        self._each(lambda b: b.scalars(values, step))

    def picture(self, name: str, path: Path, step: int) -> None:
        """See `Board`."""
        self._each(lambda b: b.picture(name, path, step))

    def text(self, name: str, text: str, step: int) -> None:
        """See `Board`."""
        self._each(lambda b: b.text(name, text, step))

    def close(self) -> None:
        """See `Board`."""
        self._each(lambda b: b.close())

    def _each(self, draw: Callable[[Board], None]) -> None:
        for board in list(self._boards):
            try:
                draw(board)
            except Exception as e:  # a full disk, a network, a library's own: training goes on whatever it is
                self._boards.remove(board)
                why = (e.strerror if isinstance(e, OSError) else None) or " ".join(str(e).split()) or type(e).__name__
                self._on_trouble(f"{board.name} cannot be written: {why}; its curves end here, log.jsonl goes on")
