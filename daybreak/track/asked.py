"""From what was typed to what `daybreak track` does. Needs no torch: a mistake is told before it is imported."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from daybreak.arguments import parse_arguments, split_arguments
from daybreak.config import ConfigError
from daybreak.files import check_empty
from daybreak.track import entry as entries
from daybreak.track import plan as plans
from daybreak.track.plan import Plan
from daybreak.track.rules import TRACKS, cores_of


@dataclass(frozen=True)
class Make:
    """An entry to make in `out`."""

    plan: Plan
    out: Path
    hidden_seed: Path | None
    checkout: Path | None
    judge: bool


@dataclass(frozen=True)
class Verify:
    """An entry to check, and to run again in `out`."""

    entry: Path
    out: Path
    hidden_seed: Path | None
    checkout: Path | None


@dataclass(frozen=True)
class Page:
    """Entries to add to the kept ones, and the page to write. hidden_seed: the file that is shown from now on."""

    kept: Path
    added: tuple[Path, ...]
    hidden_seed: Path | None


Asked = Make | Verify | Page


def asked_track(
    arguments: list[str], track: str | None, seeds: int, out: Path | None, data: str | None,
    hidden_seed: Path | None, changed: str, verify: Path | None, page: Path | None,
    peer_checkout: Path | None = None, judge: bool = True, teach: int | None = None,
) -> Asked:  # fmt: skip
    """What was asked for. `arguments` holds the recipe and the settings, or the entries to add to a page.

    Raises ConfigError for what cannot be.
    """
    if not judge and (verify is not None or page is not None):
        raise ConfigError("--no-judge leaves the judging of a new entry for later; it has no effect here")
    if teach is not None and (verify is not None or page is not None):
        raise ConfigError("--teach is for a new entry; it has no effect here")
    if page is not None:
        if verify is not None or track is not None or out is not None:
            raise ConfigError("--page takes entries and a hidden seed to show: daybreak track ENTRY ... --page FOLDER")
        names, settings = split_arguments(arguments)
        if settings:
            raise ConfigError(f"--{settings[0][0]} has no effect beside --page")
        for name in names:
            entries.check(Path(name))
        if not names and not page.is_dir():
            raise ConfigError(f"--page {page}: no such folder")
        if hidden_seed is not None:
            plans.hidden_seed(hidden_seed)
        return Page(page, tuple(map(Path, names)), hidden_seed)
    recipe, settings = parse_arguments(arguments)
    if verify is not None:
        if recipe is not None or settings or track is not None:
            raise ConfigError("--verify runs the entry as it is: leave out recipe, settings and --track")
        entry = entries.check(verify)
        if entry["track"] in TRACKS and TRACKS[entry["track"]].cores is not None:
            cores_of(TRACKS[entry["track"]])
        plans.judging_seed(plans.load(verify), hidden_seed)
        plans.check_peer(plans.load(verify), peer_checkout)
        again = out or verify.with_name(f"{verify.name}-again")
        return Verify(verify, again, hidden_seed, peer_checkout)
    if recipe is None:
        raise ConfigError("say what to run: daybreak track RECIPE --track scenes-32-cpu")
    if track is None:
        raise ConfigError(f"say on which track: --track {' or '.join(TRACKS)}")
    plan = plans.make(track, recipe, settings, seeds, changed, data, hidden_seed, peer_checkout, teach)
    if plan.of_track.cores is not None:
        cores_of(plan.of_track)
    if out is not None and not (out / plans.FILE).exists():
        check_empty(out, "it holds no entry; choose another --out")
    folder = out or Path("runs") / f"track-{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    return Make(plan, folder, hidden_seed, peer_checkout, judge)
