"""Checkpoints: a folder each, whole and verified or absent (checkpoint_files.py).

RUN/checkpoints/step-00001200/
    transformer.safetensors   averaged weights of the transformer: what sampling loads
    text_encoder/ tokenizer/  averaged text encoder, as `from_pretrained` reads it; absent where it is a frozen one
    training/                 what training goes on with, a file a rank (tensors.py)
    state.json                step, position, seconds and the like; versions
    config.yaml               the settings it was trained with
    manifest.json             sizes and checksums of all files
RUN/checkpoints/best.json     which one had the best score
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import distributed, nn

from daybreak import __version__
from daybreak import checkpoint_files as files
from daybreak.checkpoint_files import complete as complete
from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder
from daybreak.files import check_empty
from daybreak.formats.run import load_averages
from daybreak.formats.weights import load_weights
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks
from daybreak.run_folder import AVERAGES
from daybreak.run_folder import newest as newest
from daybreak.train import phema, tensors
from daybreak.train.pixel import Pixel, contiguous
from daybreak.train.trainee import Trainee

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk, or of a user's full share of it."""


class SaveError(RuntimeError):
    """A checkpoint could not be written; the message says why, in a line. Earlier ones are untouched.

    lasting: it is not for lack of room, which others may make, and so would fail again.
    """

    def __init__(self, message: str, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class Checkpoints:
    """Writes a run's checkpoints. Where there is a GPU or several processes, training goes on meanwhile."""

    def __init__(self, run: Path, ranks: Ranks) -> None:
        self._run, self._ranks = run, ranks
        # Its own group: the writing thread's messages must not mix with those of training.
        self._group: Any = distributed.new_group(backend="gloo") if ranks.world > 1 else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[Path | None] | None = None
        if ranks.first:
            files.clear_unfinished(run)

    def save(self, trainee: Trainee, wait: bool) -> Path | None:
        """Begins a checkpoint, after the one before is finished; `wait`: returns when it is. Called by every rank.

        Returns its folder where it waited, at the first rank. Raises SaveError where this one, or the one before, could
        not be written.
        """
        trouble: SaveError | None = None
        try:
            self.finish()
        except SaveError as e:
            trouble = e
        building = files.folder_of(self._run, trainee.step).with_suffix(files.INCOMPLETE)
        try:
            if self._ranks.first and trouble is None:
                shutil.rmtree(building, ignore_errors=True)
                (building / tensors.FOLDER).mkdir(parents=True)
        except OSError as e:
            trouble = _save_error(building, e)
        _, (failed,) = self._ranks.agree([], [trouble is not None])  # all go on, or none
        if failed:
            raise trouble or SaveError(f"{building.with_suffix('')} could not be written by another rank")
        drawing = trainee.write_drawing(building)
        numbers = {name: getattr(trainee, name) for name in trainee.numbers}
        numbers = json.loads(json.dumps(numbers)) | {"daybreak": __version__, "torch": torch.__version__}
        writing = tensors.write(trainee, building / tensors.FOLDER, self._group)

        def finish() -> Path | None:
            try:
                if self._ranks.first:
                    drawing()
                    (building / "state.json").write_text(json.dumps(numbers))
                    trainee.save_settings(building)
                writing()
                return files.publish(building, trainee.config.train.keep) if self._ranks.first else None
            except tensors.write_errors() as e:
                if self._ranks.first:
                    shutil.rmtree(building, ignore_errors=True)
                raise _save_error(building, e) from None

        if trainee.device.type == "cpu" and self._ranks.world == 1:
            # In a thread of its own torch would start a second team of OpenMP threads. With more of them than cores
            # they no longer wait awake, and every step after that takes half as long again.
            return finish()
        self._pending = self._thread.submit(finish)
        return self.finish() if wait else None

    def finish(self) -> Path | None:
        """Waits for the checkpoint that is being written. Raises SaveError where it could not be."""
        pending, self._pending = self._pending, None
        return pending.result() if pending is not None else None

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=True)


def save(trainee: Trainee, run: Path) -> Path:
    """Writes a checkpoint of a process of its own and returns its folder; see `Checkpoints`."""
    checkpoints = Checkpoints(run, Ranks())
    try:
        folder = checkpoints.save(trainee, wait=True)
    finally:
        checkpoints.close()
    assert folder is not None
    return folder


def newest_good(run: Path, note: Callable[[str], None] = lambda _: None, skip: int = 0) -> Path:
    """The newest checkpoint that is undamaged; `note` is told of each that is not. ConfigError where none is.

    skip: how many undamaged ones are passed over, where there are more.
    """
    newest(run)
    good: Path | None = None
    for folder in reversed(complete(run)):
        if reason := files.damage(folder):
            note(f"{folder}: {reason}; going back to the checkpoint before it")
            continue
        good = folder
        if (skip := skip - 1) < 0:
            break
    if good is not None:
        return good
    raise ConfigError(f"{run}: no checkpoint is undamaged; the newest, {newest(run).name}: {files.damage(newest(run))}")


def resume(
    run: Path, config: Config, device: torch.device, ranks: Ranks = Ranks(),
    note: Callable[[str], None] = lambda _: None,
) -> Pixel:  # fmt: skip
    """The state of the newest undamaged checkpoint of our own model, to the bit, on any number of processes.

    ConfigError where it does not fit `config` or none is undamaged.
    """
    folder = newest_good(run, note if ranks.first else lambda _: None)
    pixel = Pixel.of_checkpoint(folder, config, device, ranks.mesh)
    restore(pixel, folder)
    return pixel


def roll_back(trainee: Trainee, folder: Path) -> None:
    """Brings `trainee` back to what it was at an undamaged checkpoint."""
    trainee.restore_drawing(folder)
    restore(trainee, folder)


def restore(trainee: Trainee, folder: Path) -> None:
    """Fills `trainee` with what training goes on with. ConfigError where that is damaged or does not fit."""
    tensors.read(trainee, folder / tensors.FOLDER)
    try:
        numbers = json.loads((folder / "state.json").read_text())
        for name in trainee.numbers:
            setattr(trainee, name, numbers[name])
    except (OSError, ValueError, KeyError) as e:
        raise ConfigError(f"{folder / 'state.json'} is damaged: {e}") from None


def save_average(run: Path, config: Config, length: float, out: Path) -> Path:
    """Writes a checkpoint in `out` whose averaged weights have the relative `length` (train/phema.py).

    It serves for drawing, not for going on with training. Raises ConfigError where `out` is not empty or the run
    stored no snapshots.
    """
    check_empty(out)
    transformer, text_encoder = load_average_of(run, config, length)
    folder = out / "checkpoints" / newest_good(run).name
    folder.mkdir(parents=True)
    save_file(contiguous(transformer.state_dict()), folder / "transformer.safetensors")
    if not text_encoder.frozen:
        text_encoder.save(folder)
    return folder


def load_average_of(run: Path, config: Config, length: float) -> tuple[Transformer, TextEncoder]:
    """The networks averaged over the relative `length`. Raises ConfigError where the run stored no snapshots."""
    transformer, text_encoder = load_averages(newest_good(run), config)
    averaged = phema.reconstruct(run, length)
    modules: dict[str, nn.Module] = {"transformer": transformer}
    if not text_encoder.frozen:
        modules["text_encoder"] = text_encoder
    for name, module in modules.items():
        part = {k.removeprefix(name + "."): v for k, v in averaged.items() if k.startswith(name + ".")}
        load_weights(module, part, run / AVERAGES)
    return transformer, text_encoder


def _save_error(building: Path, error: BaseException) -> SaveError:
    """Why a checkpoint could not be written."""
    causes = getattr(error, "failures", None)  # of a CheckpointException, by rank
    first: Any = next(iter(causes.values())) if causes else error
    reason = first[0] if isinstance(first, tuple) else first
    text = getattr(reason, "strerror", None) or " ".join(str(reason).split())[:200]
    told = f"{building.with_suffix('')} could not be written: {text}"
    number = getattr(reason, "errno", None) or next(map(int, re.findall(r"os error (\d+)", text)), None)  # safetensors'
    if number is not None and number not in NO_ROOM:
        return SaveError(told, lasting=True)
    with suppress(OSError):
        told += f" ({shutil.disk_usage(building.parents[1]).free / 1e9:.3g} GB free there)"
    return SaveError(told)
