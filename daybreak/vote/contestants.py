"""What is compared: folders of pictures, or runs whose pictures are generated first; matched picture by picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.data.listing import list_items
from daybreak.evaluate.adapter_option import parse_adapter
from daybreak.run_folder import trained_config

PROMPTS = "prompts.jsonl"
SCENES_PROMPTS_PER_TASK = 8
OTHER_NOISE = "other noise"
"""What tells a model that is compared with itself apart."""
AGAIN = 100_000
"""From the number of a picture to that of the same prompt's from other noise."""


@dataclass(frozen=True)
class Picture:
    """A picture of a contestant; `name` is its path in the folder without the suffix; the prompt may be unknown."""

    path: Path
    name: str
    prompt: str | None


@dataclass(frozen=True)
class Match:
    """One prompt (empty where it is not known) and each contestant's picture of it, in the contestants' order."""

    prompt: str
    pictures: tuple[Path, ...]


def is_run(path: Path) -> bool:
    """Whether `path` is a run folder or a diffusers pipeline, whose pictures have to be generated first."""
    return any((path / name).is_file() for name in ("config.yaml", "finetune.yaml", "model_index.json"))


@dataclass(frozen=True)
class Contestant:
    """place: a folder of pictures, or a run or pipeline; lora: adapters that it draws with; name: for results.

    again: it draws what it draws from other noise.
    """

    place: Path
    name: str
    lora: tuple[str, ...] = ()
    again: bool = False

    @property
    def where(self) -> str:
        """What a study knows it by."""
        return " + ".join([str(self.place.resolve()), *self.lora, *[OTHER_NOISE] * self.again])


def contestants_of(places: list[Path], lora: tuple[str, ...]) -> list[Contestant]:
    """The places, and the only one again with each adapter that is for no contestant by name; a model alone is compared
    with itself, from other noise, as `daybreak prefer` learns from.

    Raises ConfigError for an adapter that nothing can draw with, and for a place that is given twice.
    """
    names = names_of(places)
    found, more = [Contestant(place, name) for place, name in zip(places, names, strict=True)], []
    for text in lora:
        adapter = parse_adapter(text)
        if adapter.model is None and len(places) != 1:
            raise ConfigError(f"--lora {text}: say which contestant draws with it, as {names[0]}={text}")
        number = 0 if adapter.model is None else names.index(adapter.model) if adapter.model in names else None
        if number is None:
            raise ConfigError(f"--lora {text}: no contestant is named {adapter.model}; there is {', '.join(names)}")
        if not is_run(places[number]):
            raise ConfigError(f"--lora {text}: {places[number]} is a folder of pictures, which no adapter changes")
        plain = text if adapter.model is None else text.partition("=")[2]
        if adapter.model is None:
            strength = "" if adapter.strength == 1 else f":{adapter.strength:g}"
            more.append(Contestant(places[0], f"{names[0]} with {adapter.path.stem}{strength}", (plain,)))
        else:
            found[number] = replace(found[number], lora=(*found[number].lora, plain))
    if len(found) == 1 and not more and is_run(found[0].place):
        more.append(replace(found[0], name=f"{names[0]}, {OTHER_NOISE}", again=True))
    every = found + more
    if len({c.name for c in every}) < len(every):  # adapters of one name in several folders
        every = [replace(c, name=f"{c.name} ({i})") for i, c in enumerate(every, start=1)]
    return every


def names_of(paths: list[Path]) -> list[str]:
    """A short name for each: the last part of its path, or as many parts as tell it from the others.

    Raises ConfigError where one is given twice.
    """
    parts = [p.resolve().parts for p in paths]
    for path, count in Counter(parts).items():
        if count > 1:
            raise ConfigError(f"{Path(*path)} is given twice; a contestant cannot be compared with itself")
    length = 1
    while len({p[-length:] for p in parts}) < len(parts):
        length += 1
    return ["/".join(p[-length:]) for p in parts]


def read_folder(folder: Path) -> list[Picture]:
    """The pictures of a folder in a fixed order.

    Where it holds prompts.jsonl (file_name and text), the pictures listed there; otherwise those that every other
    command finds in it, each with its first caption. Raises ConfigError where the folder is missing, holds no picture,
    or its list cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of pictures, and no run folder")
    if (folder / PROMPTS).is_file():
        return _read_list(folder, folder / PROMPTS)
    try:
        items = list_items(folder)
    except ConfigError as e:
        raise ConfigError(f"{folder} holds nothing to compare, and no config.yaml of a run: {e}") from None
    if not items:
        raise ConfigError(f"{folder} holds nothing to compare: its pictures are no files of their own")
    return [Picture(item.path, _name(folder, item.path), item.caption or None) for item in items]


def _name(folder: Path, path: Path) -> str:
    below = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    return below.with_suffix("").as_posix()


def _read_list(folder: Path, path: Path) -> list[Picture]:
    pictures = []
    for where, row in _rows(path):
        file_name, text = row.get("file_name"), row.get("text")
        if not isinstance(file_name, str) or not isinstance(text, str):
            raise ConfigError(f"{where} needs file_name and text; it has {', '.join(row) or 'nothing'}")
        pictures.append(Picture(folder / file_name, _name(folder, folder / file_name), text.strip() or None))
    if not pictures:
        raise ConfigError(f"{path} lists no picture")
    return pictures


def read_prompts(path: Path) -> list[str]:
    """A prompt list: one prompt a line, or .jsonl with `text` (or `prompt`, as GenEval's). Raises ConfigError."""
    if not path.is_file():
        raise ConfigError(f"--prompts {path}: no such file")
    if path.suffix.lower() == ".jsonl":
        prompts = []
        for where, row in _rows(path):
            text = row.get("text", row.get("prompt"))
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(f"{where} needs a text (or prompt); it has {', '.join(row) or 'nothing'}")
            prompts.append(text.strip())
    else:
        prompts = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not prompts:
        raise ConfigError(f"--prompts {path} holds no prompt")
    return prompts


def _rows(path: Path) -> list[tuple[str, dict[str, object]]]:
    """[(where, row)] of a JSON-lines file of objects."""
    rows = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as e:
                raise ConfigError(f"{where} is not JSON: {e.msg}") from None
            if not isinstance(row, dict):
                raise ConfigError(f'{where} should be an object such as {{"file_name": …, "text": …}}')
            rows.append((where, row))
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path} is not UTF-8 text: {e.reason} at byte {e.start}") from None
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror}") from None


def match(names: list[str], folders: list[list[Picture]]) -> tuple[list[Match], list[str]]:
    """Pictures of the same thing, and one line for each picture that not all have.

    By prompt where every picture of every contestant has one (the k-th picture of a prompt goes with the k-th), else by
    file name without its suffix. Raises ConfigError where two contestants give one name different prompts, and where
    nothing matches.
    """
    by_prompt = all(p.prompt for pictures in folders for p in pictures)
    tables = [_by_prompt(pictures) if by_prompt else _by_name(pictures) for pictures in folders]
    matches, left_over = [], []
    for key, first in tables[0].items():
        if not all(key in table for table in tables):
            continue
        found = [table[key] for table in tables]
        prompts = sorted({p.prompt for p in found if p.prompt})
        if len(prompts) > 1:
            raise ConfigError(f"{first.name} has different prompts: {prompts[0]!r} and {prompts[1]!r}")
        matches.append(Match(prompts[0] if prompts else "", tuple(p.path for p in found)))
    for table in tables:
        for key, picture in table.items():
            lacking = [name for name, other in zip(names, tables, strict=True) if key not in other]
            if lacking:
                left_over.append(f"{picture.path}: no such picture of {', '.join(lacking)}")
    if not matches:
        how = "prompt" if by_prompt else "file name"
        raise ConfigError(
            f"nothing to compare: {' and '.join(names)} have no {how} in common; pictures belong together that have "
            f"the same file name, or the same text in {PROMPTS} or metadata.jsonl"
        )
    return matches, left_over


def _by_prompt(pictures: list[Picture]) -> dict[tuple[str, int], Picture]:
    seen: Counter[str] = Counter()
    table: dict[tuple[str, int], Picture] = {}
    for picture in pictures:
        prompt = picture.prompt or ""
        table[prompt, seen[prompt]] = picture
        seen[prompt] += 1
    return table


def _by_name(pictures: list[Picture]) -> dict[tuple[str, int], Picture]:
    table: dict[tuple[str, int], Picture] = {}
    for picture in pictures:
        if (picture.name, 0) in table:
            raise ConfigError(f"{table[picture.name, 0].path} and {picture.path} differ only in their suffix")
        table[picture.name, 0] = picture
    return table


def prompts_for_runs(runs: list[Path], folders: list[list[Picture]], listed: Path | None, seed: int) -> list[str]:
    """What the runs generate: the listed prompts, else those of the folders beside them, else those of `scenes`.

    Raises ConfigError where there is none of these.
    """
    if listed is not None:
        return read_prompts(listed)
    if folders:
        if all(p.prompt for p in folders[0]):
            return [p.prompt or "" for p in folders[0]]
        raise ConfigError(
            f"{runs[0]} is a run and needs prompts: give --prompts FILE, or a {PROMPTS} beside the pictures"
        )
    for run in runs:
        if not (run / "config.yaml").is_file():
            raise ConfigError(f"{run} is a diffusers pipeline: say with --prompts FILE what it should generate")
        if (source := trained_config(run).data.source) != "scenes":
            raise ConfigError(f"{run} was trained on a {source}: say with --prompts FILE what the runs should generate")
    from daybreak.evaluate.composition import prompts_of_tasks

    return [p.text for p in prompts_of_tasks(SCENES_PROMPTS_PER_TASK, seed)]


def draw(
    run: Path, prompts: list[str], seed: int, folder: Path, say: Callable[[str], None], lora: tuple[str, ...] = (),
    again: bool = False,
) -> list[Picture]:  # fmt: skip
    """The run's pictures of `prompts`, generated with its averaged weights and these adapters, as PNG in `folder`.

    Picture i starts from the same noise for every run of one picture size, so that luck is no one's advantage; `again`:
    from other noise, the prompt being written out as it is for the first.
    """
    from PIL import Image

    from daybreak.data.batch import to_uint8
    from daybreak.evaluate.request import Drawing
    from daybreak.parallel import pick_device
    from daybreak.sampling.expand import expanded
    from daybreak.subjects import open_subject

    subject = open_subject(str(run), Drawing(seed=seed, lora=lora), pick_device())
    drawer = subject.drawer
    assert drawer is not None
    said = prompts
    if again and drawer.plain is not None and subject.config is not None:
        said = expanded(prompts, subject.config.sample.expand, seed, range(len(prompts)))
        drawer = drawer.plain
    say(f"generating {len(prompts)} pictures with {' and '.join([str(run), *lora, *[OTHER_NOISE] * again])} ...")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for start in range(0, len(prompts), drawer.batch):
        drawn = to_uint8(drawer.draw(said[start : start + drawer.batch], start + AGAIN * again))
        for i, pixels in enumerate(drawn, start):
            path = folder / f"{i:05}.png"
            Image.fromarray(pixels).save(path)
            pictures.append(Picture(path, path.stem, prompts[i]))
    return pictures
