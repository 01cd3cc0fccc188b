"""A study: a folder with the contestants' pictures, what is asked, and the votes. It needs nothing outside itself.

DIR/study.json      contestants, prompts, questions, seed
DIR/pictures/       every picture as PNG, stripped of all metadata
DIR/votes.sqlite    voters, what each is shown, votes
DIR/skipped.jsonl   what could not be compared, and why
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.pictures import decode
from daybreak.vote import contestants
from daybreak.vote.contestants import Contestant, Match
from daybreak.vote.settings import QUESTIONS as QUESTIONS

MAX_SIDE_PX = 2048
"""Larger pictures are scaled down: no voter's screen shows more."""


@dataclass(frozen=True)
class Study:
    """What is compared and asked. Contestants and prompts go by their place in these lists."""

    contestants: tuple[str, ...]
    """Names, for results only: nothing that a voter receives holds them."""
    paths: tuple[str, ...]
    """Where each came from."""
    prompts: tuple[str, ...]
    questions: tuple[str, ...]
    seed: int
    limit: int | None
    """Most pairs a voter sees; none: all."""


def picture_path(folder: Path, item: int, contestant: int) -> Path:
    """Where a study keeps a contestant's picture of a prompt."""
    return folder / "pictures" / f"{item:05}-{contestant}.png"


def load(folder: Path) -> Study:
    """The study in `folder`; ConfigError where there is none or it is damaged."""
    path = folder / "study.json"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no blind comparison (no study.json)")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        lists = {k: tuple(raw[k]) for k in ("contestants", "paths", "prompts", "questions")}
        return Study(**lists, seed=raw["seed"], limit=raw["limit"])
    except (ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"{path} is damaged: {type(e).__name__} {e}") from None


def create(
    folder: Path, them: list[Contestant], prompts: Path | None, questions: tuple[str, ...], seed: int,
    limit: int | None, say: Callable[[str], None],
) -> Study:  # fmt: skip
    """Gathers the contestants' pictures into `folder`; study.json comes last, so a study is whole or not there.

    `say` gets lines on what happens. Raises ConfigError for contestants that cannot be compared.
    """
    if folder.exists() and {p.name for p in folder.iterdir()} - {"pictures", "drawn", "skipped.jsonl"}:
        raise ConfigError(f"--out {folder} holds other files; a new comparison needs a folder of its own")
    runs = [c.place for c in them if contestants.is_run(c.place)]
    if prompts is not None and not runs:
        raise ConfigError(
            "--prompts has no effect here: it says what runs generate, and none of the contestants is a run folder"
        )
    folders = {i: contestants.read_folder(c.place) for i, c in enumerate(them) if c.place not in runs}
    wanted = contestants.prompts_for_runs(runs, list(folders.values()), prompts, seed) if runs else []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i, c in enumerate(them):
            if i not in folders:
                folders[i] = contestants.draw(c.place, wanted, seed, folder / "drawn" / str(i), say, c.lora, c.again)
        matches, lost = contestants.match([c.name for c in them], [folders[i] for i in range(len(them))])
        if "prompt" in questions and not all(m.prompt for m in matches):
            raise ConfigError(
                f"the question 'prompt' needs every picture's prompt: put a {contestants.PROMPTS} (file_name, text) "
                "or a .txt for each picture into one of the folders, or leave the question out"
            )
        kept, unreadable = _copy(matches, folder)
        shutil.rmtree(folder / "drawn", ignore_errors=True)
        (folder / "skipped.jsonl").write_text(
            "".join(json.dumps({"reason": line}, ensure_ascii=False) + "\n" for line in lost + unreadable), "utf-8"
        )
        if lost + unreadable:
            say(f"{len(lost + unreadable)} pictures cannot be compared; {folder / 'skipped.jsonl'} says why")
        if not kept:
            raise ConfigError(f"no picture can be compared; {folder / 'skipped.jsonl'} says why")
        study = Study(
            tuple(c.name for c in them),
            tuple(c.where for c in them),
            tuple(m.prompt for m in kept),
            questions,
            seed,
            limit,
        )
        partial = folder / "study.json.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(study), file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / "study.json")
    except OSError as e:
        raise ConfigError(f"--out {folder} cannot be written: {e.strerror or e}") from None
    return study


def _copy(matches: list[Match], folder: Path) -> tuple[list[Match], list[str]]:
    """Copies pictures into the study, numbered without gaps; returns the matches kept, and a line for each one lost."""
    (folder / "pictures").mkdir(exist_ok=True)
    kept: list[Match] = []
    lost: list[str] = []

    def read(m: Match) -> list[Image.Image] | str:
        pictures = []
        for path in m.pictures:
            try:
                pictures.append(_open(path))
            except ValueError as e:
                return f"{path}: {e}"
        return pictures

    def write(job: tuple[Image.Image, Path]) -> None:
        job[0].save(job[1], compress_level=3)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(matches), 32):  # a few at a time, so that memory does not grow with the study
            jobs = []
            chunk = matches[start : start + 32]
            for m, result in zip(chunk, pool.map(read, chunk), strict=True):
                if isinstance(result, str):
                    lost.append(result)
                    continue
                jobs += [(image, picture_path(folder, len(kept), c)) for c, image in enumerate(result)]
                kept.append(m)
            list(pool.map(write, jobs))
    return kept, lost


def _open(path: Path) -> Image.Image:
    """A picture as a voter sees it: upright, in sRGB, on white where transparent, nothing but pixels.

    Raises PictureError (a ValueError) with the reason where it cannot be read.
    """
    rgb = decode(path, (255, 255, 255)).image
    rgb.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    rgb.info.clear()  # PNG would carry text, profiles and times of the original along
    return rgb
