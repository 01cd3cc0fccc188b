"""Pairs from the votes of a blind comparison (`daybreak compare-blind RUN`, or RUN against others)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.data.pictures import decode
from daybreak.evaluate.subjects import Subject
from daybreak.prefer.ballots import Ballots, contestants_of_run
from daybreak.prefer.pairs import WHITE, Drawn, picture_tensor
from daybreak.sampling.expand import expanded
from daybreak.vote.contestants import AGAIN
from daybreak.vote.study import picture_path

SAME = 0.05
"""Mean distance, in [-1, 1] units, up to which two pictures are the same one: batches and rounding move less."""
CHECKED = 3
"""Pictures that are drawn again, to see whether they are the model's."""


def voted_pairs(folder: Path, run: Path, ballots: Ballots, subject: Subject) -> Iterator[Drawn]:
    """The pairs that people decided, of pictures of `run`, which `subject` draws with.

    ConfigError where these pictures are not what the run draws now: it was trained further, or is another one.
    """
    study, captions = ballots.study, list(ballots.study.prompts)
    if subject.config is not None:
        captions = expanded(captions, subject.config.sample.expand, study.seed, range(len(captions)))
    _check_drawn(folder, run, ballots, captions, subject)
    for (item, first, second), score in ballots.scores.items():
        if score:
            winner, loser = (first, second) if score > 0 else (second, first)
            pictures = [picture_path(folder, item, k).read_bytes() for k in (winner, loser)]
            yield Drawn(captions[item], study.prompts[item], pictures[0], pictures[1], (float(abs(score)), 0.0))


def _check_drawn(folder: Path, run: Path, ballots: Ballots, captions: list[str], subject: Subject) -> None:
    """ConfigError where the study's pictures of the run are not those that the run draws with the study's seed."""
    drawer = subject.drawer
    assert drawer is not None
    plain = drawer.plain or drawer  # captions are written out already
    for k, again in contestants_of_run(ballots.study, run).items():
        for item in range(min(CHECKED, len(captions))):
            path = picture_path(folder, item, k)
            there = picture_tensor(decode(path, WHITE).image)
            drawn = plain.draw([captions[item]], item + AGAIN * again)[0]
            if drawn.shape != there.shape or float((drawn - there).abs().mean()) > SAME:
                raise ConfigError(
                    f"--votes {folder}: {path.name} is not what {run} draws for {ballots.study.prompts[item]!r}: it "
                    "was trained further since, or is another model; let people vote again"
                )
