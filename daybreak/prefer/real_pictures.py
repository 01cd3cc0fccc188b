"""How far drawn pictures lie from real ones as a set (FID), before and after preferences were learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from daybreak.config import Config, ConfigError, override_all
from daybreak.data.batch import Source
from daybreak.data.folder import FolderSource
from daybreak.data.listing import Item, holds_shards, with_data
from daybreak.data.open import open_source
from daybreak.data.pictures import open_square
from daybreak.data.shards.source import ShardSource
from daybreak.evaluate.distribution import measure_distance
from daybreak.evaluate.downloads import INCEPTION, is_here
from daybreak.evaluate.features.extract import extract
from daybreak.evaluate.measures import LEAST_FRECHET, Measure
from daybreak.evaluate.pictures import open_pictures, save_pictures, write_captions
from daybreak.evaluate.prompts import spread
from daybreak.evaluate.request import Request, parse_weights
from daybreak.evaluate.subjects import Subject
from daybreak.evaluate.workbench import Workbench
from daybreak.parallel import Ranks
from daybreak.prefer.figures import SURE
from daybreak.prefer.findings import Findings, Row
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.pairs import WHITE, picture_tensor
from daybreak.prefer.ranking import Draw
from daybreak.prefer.settings import PreferSettings

SEED_OFFSET = 600
"""From the run's seed to that of these pictures' noise."""
AT_ONCE = 16
"""Pictures that are in memory together."""


@dataclass(frozen=True)
class Fid:
    """The distances before and after, of as many pictures from the same noise."""

    before: Measure
    after: Measure

    @property
    def error(self) -> float:
        """The standard error of the change, as if both were drawn apart."""
        return float(sum(m.details["standard error"] ** 2 for m in (self.before, self.after)) ** 0.5)


@dataclass
class _Drawer:
    """What `draw` draws of prompts, as daybreak/evaluate has pictures drawn."""

    draw_numbered: Draw
    lessons: Lessons
    batch: int = AT_ONCE
    plain: None = None

    def draw(self, prompts: list[str], first: int) -> Tensor:
        """See evaluate/subjects.py."""
        numbers = range(first, first + len(prompts))
        seed = self.lessons.settings.seed + SEED_OFFSET
        return self.draw_numbered(self.lessons.write_out(prompts, numbers), numbers, seed)


def measure_fid(
    lessons: Lessons, config: Config | None, side: int, device: torch.device, before: Draw, after: Draw
) -> Fid:
    """FID of `settings.count` pictures of `side` px to real ones, of whose captions they are drawn; RUN/evaluation has
    all of them. config: of a model of our own, whose training pictures are taken where the settings name no others.

    Raises ConfigError, one line, where it cannot be measured.
    """
    settings = lessons.settings
    if not has_real(settings, config):
        raise ConfigError("no real pictures to compare with; --reference names a folder of some, or shards")
    request = Request(("fid",), count=settings.count, weights=parse_weights(list(settings.weights)))
    # What nobody asked for is not downloaded.
    if settings.reference is None and "inception" not in request.weights and not is_here(INCEPTION):
        raise ConfigError(
            f"{INCEPTION.purpose} ({INCEPTION.megabytes} MB) is not here; {INCEPTION.flag} names a copy, and with "
            "--reference it is downloaded"
        )
    bench = Workbench(Subject("prefer"), request, lessons.folder, device, Ranks(), lambda _: None)
    network = bench.network("inception")  # first: where there is none, nothing need be drawn
    folder = bench.fresh("reference")
    captions = _save_real(_real(settings, config, side), folder)
    if len(captions) < LEAST_FRECHET:
        raise ConfigError(f"{len(captions)} real pictures are too few; at least {LEAST_FRECHET} are needed")
    reference = extract(open_pictures(folder, "--reference"), network, device, Ranks())
    own = [caption for caption in captions if caption] or [*lessons.prompts.learnt, *lessons.prompts.held_out]
    prompts = spread(own, len(captions), settings.seed)
    found = []
    for name, draw in (("before", before), ("after", after)):
        drawn = bench.draw(Subject(name, drawer=_Drawer(draw, lessons)), name, prompts)
        found.append(measure_distance("fid", extract(drawn, network, device, Ranks()), reference, device))
    return Fid(*found)


def compare_with_real(
    found: Findings, lessons: Lessons, config: Config | None, side: int, device: torch.device, before: Draw, after: Draw
) -> None:
    """Adds the FID to real pictures, or why it was not measured; see `measure_fid`."""
    try:
        fid = measure_fid(lessons, config, side, device, before, after)
    except ConfigError as e:
        found.notes.append(f"FID was not measured: {e}")
        return
    was, now = fid.before.value, fid.after.value
    title = f"FID of {fid.after.pictures} pictures to {fid.after.reference} real ones"
    found.rows.append(Row(title, was, now, better="lower"))
    found.notes += [f"FID: {warning}" for warning in fid.after.warnings]
    if now - was > SURE * fid.error:
        found.alarms.append(f"the FID to real pictures rose from {was:.4g} to {now:.4g}: drawn ones became less alike")


def has_real(settings: PreferSettings, config: Config | None) -> bool:
    """Whether there are real pictures to compare with: of --reference, or those that a model of our own has seen."""
    return settings.reference is not None or (config is not None and bool(config.data.folder or config.data.shards))


def _save_real(real: Iterator[tuple[Tensor, list[str]]], folder: Path) -> list[str]:
    """Writes pictures [B, 3, S, S] in [-1, 1] and their captions; returns these, "" where there is none."""
    captions: list[str] = []
    names: list[str] = []
    for images, said in real:
        new = [f"{len(captions) + i:06d}.png" for i in range(len(said))]
        save_pictures(images, [folder / name for name in new])
        captions += said
        names += new
    write_captions(folder, names, captions)
    return captions


def _real(settings: PreferSettings, config: Config | None, side: int) -> Iterator[tuple[Tensor, list[str]]]:
    """At most `count` different real pictures as squares, each with its caption, or "": those of --reference, else
    those that the model was trained on."""
    if settings.reference is not None and not holds_shards(settings.reference):
        return _of_folder(open_pictures(Path(settings.reference), "--reference").items, settings, side)
    data = config if settings.reference is None else with_data(Config(), [settings.reference])
    assert data is not None
    squares = {
        "data.resolution": side, "data.max_ratio": 1.0, "data.flip": False, "data.embeddings": None,
        "model.patch": side, "train.batch": AT_ONCE,
    }  # fmt: skip
    return _of_source(open_source(override_all(data, squares.items())), settings.count)


def _of_folder(items: Sequence[Item], settings: PreferSettings, side: int) -> Iterator[tuple[Tensor, list[str]]]:
    order = np.random.default_rng(settings.seed).permutation(len(items))
    left = settings.count
    for number in order:
        try:
            pixels = open_square(items[number].path, side, WHITE)
        except ValueError:  # of a picture that cannot be read
            continue
        yield picture_tensor(pixels)[None], [items[number].caption]
        left -= 1
        if not left:
            return


def _of_source(source: Source, count: int) -> Iterator[tuple[Tensor, list[str]]]:
    assert isinstance(source, FolderSource | ShardSource)
    count = min(count, len(source.checks))  # each once
    for start in range(0, count, AT_ONCE):
        batch = source.batch(start, min(AT_ONCE, count - start))
        yield batch.images, batch.captions
