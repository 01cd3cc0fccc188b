"""What libraries say while they work, kept in a file: no user of a command can do anything about most of it.

Warnings and log messages of torch, transformers, diffusers and the like go to RUN/libraries.log once the run's folder
is known; those of a command without a run to libraries.log in the cache folder. Errors are exceptions, as ever.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from daybreak.files import cache_folder

FILE = "libraries.log"
LIBRARIES = (
    *("torch", "transformers", "diffusers", "huggingface_hub", "accelerate", "peft", "datasets", "torchao"),
    *("tensorboard", "wandb", "mlflow", "PIL", "matplotlib", "fsspec", "urllib3", "httpx", "filelock", "py.warnings"),
)
MOST_BYTES = 1_000_000
"""The file in the cache folder begins anew beyond this."""


class Keeper(logging.Handler):
    """Writes messages into a file; until it is told of one it holds them back."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._path: Path | None = None
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message."""
        self._waiting.append(self.format(record).rstrip() + "\n")
        if self._path is not None:
            self.keep_in(self._path)

    def keep_in(self, path: Path) -> None:
        """From here on in this file; also what waits. Where it cannot be written, messages go on waiting."""
        self._path = path
        if self._waiting:
            with suppress(OSError), path.open("a", encoding="utf-8") as file:
                file.write("".join(self._waiting))
                self._waiting.clear()

    def end(self) -> None:
        """At the end of a command: what no run's folder took goes to the cache folder."""
        if self._path is None and self._waiting:
            with suppress(OSError):
                folder = cache_folder()
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / FILE
                if path.is_file() and path.stat().st_size > MOST_BYTES:
                    path.unlink()
                self.keep_in(path)
        self._path = None
        self._waiting.clear()


class Kept(logging.Logger):
    """The logger of a library, to which it cannot add a handler that writes to the terminal, as some do."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802, as logging has it
        """Only ours, and files."""
        if not isinstance(hdlr, logging.StreamHandler) or isinstance(hdlr, logging.FileHandler):
            super().addHandler(hdlr)


keeper = Keeper()


def keep_messages() -> None:
    """From here on nothing that libraries warn of reaches the terminal. Before any of them is imported."""
    logging.captureWarnings(True)
    usual = logging.getLoggerClass()
    logging.setLoggerClass(Kept)
    try:
        for name in LIBRARIES:
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.addHandler(keeper)
    finally:
        logging.setLoggerClass(usual)
