"""docs/track.md, made from the entries that a folder beside it keeps: tables, plots, the history of records."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from daybreak.config import ConfigError
from daybreak.files import make_folder, sha256, write_whole
from daybreak.track import entry as entries
from daybreak.track.plot import plot
from daybreak.track.rules import OWN_SETTINGS, TRACKS, Target, Track

Entry = Mapping[str, Any]


def keep(folder: Path, kept: Path) -> Path:
    """Copies an entry's small files, once its digests are checked, into `kept`: NAME.json and NAME.png."""
    entry = entries.check(folder)
    make_folder(kept)
    name = re.sub(r"[^a-z0-9.]+", "-", f"{entry['track']}-{_name(entry)}-{entry['date'][:10]}".lower())
    path = kept / f"{name}-{entry['digest'][:8]}.json"
    write_whole(path, json.dumps(entry, indent=1) + "\n")
    shutil.copyfile(folder / entries.PICTURES, path.with_suffix(".png"))
    return path


def show_seed(file: Path, kept: Path) -> Path:
    """Copies the hidden seed that entries in `kept` were judged with, for all to see; ConfigError where none was."""
    told = sha256(file)
    if not any(entries.read(path)["hidden"] == told for path in kept.glob("*.json")):
        raise ConfigError(f"--hidden-seed {file}: no entry in {kept} was judged with it")
    shutil.copyfile(file, _seed_file(told, kept))
    return _seed_file(told, kept)


def write_page(kept: Path) -> Path:
    """Writes the page beside the folder `kept`, under its name, and returns it. ConfigError for a changed entry."""
    found = sorted(kept.glob("*.json"))
    known = [(path, entries.read(path)) for path in found]
    for path, entry in known:
        sheet = path.with_suffix(".png")
        if not sheet.is_file() or sha256(sheet) != entry["files"][entries.PICTURES]:
            raise ConfigError(f"{sheet} is missing or was changed: {path.name} was kept with other pictures")
    page = kept.with_suffix(".md")
    parts = [_head()]
    for track in TRACKS.values():
        of_track = [(path, entry) for path, entry in known if entry["track"] == track.name]
        parts.append(_section(track, of_track, kept))
    write_whole(page, "\n\n".join(parts) + "\n")
    return page


def _head() -> str:
    own = ", ".join(f"`{name}`" for name in OWN_SETTINGS)
    return f"""# The track: text-to-image from scratch, against the clock

Made from the entries in this repository by `daybreak track --page docs/track`; `daybreak/track/rules.py` has the rules.

    daybreak track scenes-demo --track scenes-32-cpu --seeds 3 --out runs/entry   # trains, judges, writes the entry
    daybreak track --verify runs/entry                                            # checks every digest, runs it again
    daybreak track runs/entry --page docs/track                                   # adds it, makes this page anew

- **Fixed**: the world or the pictures, the training captions, the judge and its prompts; also {own}.
  **Free**: all else.
- **From scratch**: no pretrained encoder, and no teacher but those of `daybreak teach`, whose training is charged; with
  `--teach STEPS` each run trains its own first.
- **The clock** starts with the run's process and never stops: loading libraries, the tokenizer, compilation (with empty
  caches) and saving count. It is told in seconds of the reference machine: those of the wall, times the rate of matrix
  products measured before and after the run (the larger), over the reference's. A teacher's training comes on top.
- **Nothing is judged while it runs.** A run keeps its averaged weights with the time; another process draws and judges
  them after it has ended. So no pause can hide work, and the run never sees a prompt. A record has to be judged with a
  hidden seed (`--hidden-seed FILE`): its sha256 stands in the entry, and whoever claims the record shows it, by
  `--page FOLDER --hidden-seed FILE`, so that anybody can verify the entry. A seed that was shown is hidden no longer.
- **Reached** is a target where the next judged average reaches it too, or where it is the last one.
- An entry is signed by the sha256 of each of its files and of itself; the commit that adds it says whose it is."""


def _section(track: Track, known: Sequence[tuple[Path, Entry]], kept: Path) -> str:
    parts = [f"## {track.name}", _rules(track)]
    if not known:
        return "\n\n".join([*parts, "No entry yet."])
    shown = sorted(known, key=lambda pair: _order(track, pair[1]))
    picture = kept / f"{track.name}.png"
    plot(track, [(_name(e), [({**s["clock"]}, s["rows"]) for s in e["seeds"]]) for _, e in shown], picture)
    parts.append(_table(track, shown, kept))
    parts.append(f"![Score over time on {track.name}]({kept.name}/{picture.name})")
    parts.append(_history(track, [entry for _, entry in known]))
    best = shown[0]
    parts.append(f"What {_name(best[1])} draws at its end, seed 0:")
    parts.append(f"![Pictures of {_name(best[1])}]({kept.name}/{best[0].with_suffix('.png').name})")
    return "\n\n".join(parts)


def _rules(track: Track) -> str:
    where = f"{track.cores} CPU cores" if track.cores else f"one GPU ({' or '.join(track.gpus)})"
    fixed = ", ".join(f"`{key} {_value(value)}`" for key, value in track.fixed)
    return (
        f"{track.meaning} On {where}; the reference multiplies {track.reference_rate / 1e12:g} TFLOP/s; nothing counts "
        f"after {track.limit / 60:g} minutes. A run again confirms an entry where it is at most "
        f"{track.time_tolerance:.0%} slower, or {track.score_tolerance:.0%} further away. Fixed: {fixed}."
    )


def _table(track: Track, shown: Sequence[tuple[Path, Entry]], kept: Path) -> str:
    heads = ["recipe", *(t.title for t in track.targets), "seeds", "parameters", "pictures/s", "judged", "entry"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for path, e in shown:
        clock, last = e["seeds"][0]["clock"], e["seeds"][0]["rows"][-1]
        cells = [
            _name(e),
            *(_cell(e["figures"][t.name], t) for t in track.targets),
            str(len(e["seeds"])),
            f"{clock['parameters'] / 1e6:.2f} M",
            f"{last['images'] / clock['training_seconds']:,.0f}",
            _judged(e, kept),
            f"[{e['date'][:10]}]({kept.name}/{path.name}) `{e['digest'][:8]}`, "
            f"[pictures]({kept.name}/{path.with_suffix('.png').name})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _seed_file(told: str, kept: Path) -> Path:
    return kept / f"seed-{told[:8]}"


def _judged(entry: Entry, kept: Path) -> str:
    if entry["hidden"] is None:
        return "practice"
    file = _seed_file(entry["hidden"], kept)
    shown = file.is_file() and sha256(file) == entry["hidden"]
    return f"[hidden seed]({kept.name}/{file.name}), shown since" if shown else "hidden seed"


def _history(track: Track, known: Sequence[Entry]) -> str:
    """Whose figure was the best so far when it was made, target by target."""
    lines = ["Records, as they fell, by entries of which all seeds reached the target; practice is told as such:"]
    for target in track.targets:
        best: float | None = None
        for e in sorted(known, key=lambda e: e["date"]):
            mean = e["figures"][target.name]["mean"]
            if mean is None or (best is not None and mean >= best):
                continue
            best = mean
            told = e["changed"] or "the recipe as it stands"
            practice = "" if e["hidden"] else ", practice"
            by = f"{_name(e)} ({e['date'][:10]}{practice})"
            lines.append(f"- {target.title}: {_figure(mean, target)} by {by}: {told}")
    return "\n".join(lines) if len(lines) > 1 else "No target has been reached by all seeds of an entry."


def _order(track: Track, entry: Entry) -> tuple[float, ...]:
    """Entries that reach the last target first, the fastest first; then by the one before, and so on."""
    order: list[float] = []
    for target in reversed(track.targets[:2]):
        mean = entry["figures"][target.name]["mean"]
        order += [mean if mean is not None else float("inf")]
    last = [seed["rows"][-1][track.targets[0].measure] for seed in entry["seeds"]]
    return (*order, -sum(last) / len(last))


def _name(entry: Entry) -> str:
    settings = "".join(f" --{key} {value}" for key, value in entry["settings"])
    teach = f" --teach {entry['teach']}" if entry.get("teach") else ""
    peer = ", PRX's own class" if entry["peer"] else ""
    return f"{entry['recipe']}{settings}{teach}{peer}"


def _cell(figure: Mapping[str, Any], target: Target) -> str:
    if figure["mean"] is None:
        return "–" if figure["reached"] == 0 else f"{figure['reached']} of {figure['of']} seeds"
    spread = f" ± {_figure(figure['spread'], target)}" if figure["spread"] is not None else ""
    return f"{_figure(figure['mean'], target)}{spread}"


def _figure(value: float, target: Target) -> str:
    return f"{value:,.0f} s" if target.reach is not None else f"{value:.1f}"


def _value(value: object) -> str:
    return ",".join(f"{v:g}" for v in value) if isinstance(value, tuple) else "none" if value is None else str(value)
