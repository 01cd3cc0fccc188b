"""What an entry is made of: a recipe on a track, with so many seeds. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from daybreak.config import Config, ConfigError
from daybreak.files import check_empty, make_folder, write_whole
from daybreak.track import rules
from daybreak.track.own_teacher import check_teach
from daybreak.track.peer_checkout import checkout_digest
from daybreak.track.rules import Track

FILE = "plan.json"
SEED_BITS = 40
"""Of a hidden seed: picture n of a seed is drawn from seed * 1,000,003 + n, which has to fit into 64 bits."""


@dataclass(frozen=True)
class Plan:
    """An entry to be made, or made.

    settings: (name, value) over the recipe's. changed: what a record changed, in its author's words. data: the folder
    of pictures, for a track that takes one. hidden: the sha256 of the hidden seed's file, none in practice. peer: of
    PRX's denoiser, where it takes the transformer's place. rules: the digest of the track's rules. teach: steps for
    which each run first trains a teacher of its own.
    """

    track: str
    recipe: str
    settings: tuple[tuple[str, str], ...]
    seeds: int
    changed: str
    data: str | None
    hidden: str | None
    peer: str | None
    rules: str
    teach: int | None = None

    @property
    def of_track(self) -> Track:
        """The track's rules."""
        return rules.find_track(self.track)

    def config(self, seed: int) -> Config:
        """The config of one run."""
        return rules.run_config(self.of_track, self.recipe, self.settings, self.data, seed)

    def save(self, folder: Path) -> None:
        """Writes plan.json. ConfigError where `folder` holds other things, or another entry."""
        path = folder / FILE
        if path.exists():
            before = load(folder)
            for name, old in asdict(before).items():
                if old != (new := getattr(self, name)) and name not in ("seeds", "changed"):
                    raise ConfigError(
                        f"{folder} holds an entry with {name} {_shown(old)}, now it is {_shown(new)}: go on with the "
                        "same, or choose another --out"
                    )
        else:
            check_empty(folder, "it holds no entry; choose another --out")
        make_folder(folder)
        write_whole(path, json.dumps(asdict(self), indent=2) + "\n")


def make(
    track: str, recipe: str, settings: list[tuple[str, str]], seeds: int, changed: str, data: str | None,
    hidden_file: Path | None, peer: Path | None = None, teach: int | None = None,
) -> Plan:  # fmt: skip
    """A checked plan from what was typed. Raises ConfigError for whatever does not make one."""
    found = rules.find_track(track)
    hidden = hidden_seed(hidden_file)[1] if hidden_file is not None else None
    digest = checkout_digest(peer) if peer is not None else None
    plan = Plan(track, recipe, tuple(settings), seeds, changed, data, hidden, digest, found.digest, teach)
    config = plan.config(0)
    if teach is not None:
        check_teach(config, settings)
    return plan


def load(folder: Path) -> Plan:
    """The plan of an entry's folder; ConfigError where it is damaged or missing, or its track has other rules now."""
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"{folder} is no entry: it holds no {FILE}")
    try:
        raw = json.loads(path.read_text())
        plan = Plan(settings=tuple((key, value) for key, value in raw.pop("settings")), **raw)
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise ConfigError(f"{path} is damaged: {e}") from None
    if plan.of_track.digest != plan.rules:
        raise ConfigError(f"{folder} was made by other rules of {plan.track} than this version has")
    return plan


def run_folder(folder: Path, seed: int) -> Path:
    """Where the run of one seed is."""
    return folder / "runs" / f"seed{seed}"


def teacher_file(folder: Path, seed: int) -> Path:
    """Where the run of one seed keeps the teacher that it trains for itself."""
    return folder / "teachers" / f"seed{seed}.safetensors"


def hidden_seed(file: Path) -> tuple[int, str]:
    """(seed of prompts and noise, sha256 that an entry shows) of a file that nobody else can guess.

    The seed cannot be told from the sha256. ConfigError where there is no such file, or it is too short to be hidden.
    """
    try:
        content = file.read_bytes()
    except OSError as e:
        raise ConfigError(f"--hidden-seed {file} cannot be read: {e.strerror}") from None
    if len(content) < 16:
        raise ConfigError(f"--hidden-seed {file} holds {len(content)} bytes, which can be guessed: it needs 16")
    seed = hashlib.blake2b(content, digest_size=SEED_BITS // 8, person=b"track seed").digest()
    return int.from_bytes(seed), hashlib.sha256(content).hexdigest()


def judging_seed(plan: Plan, hidden_file: Path | None) -> int:
    """The seed of the judge's prompts; ConfigError where the entry's is hidden and `hidden_file` is not its file."""
    if plan.hidden is None:
        if hidden_file is not None:
            raise ConfigError("this entry was judged with the seed that everybody knows; leave out --hidden-seed")
        return rules.PRACTICE_SEED
    if hidden_file is None:
        raise ConfigError("this entry was judged with a hidden seed: give its file by --hidden-seed")
    seed, told = hidden_seed(hidden_file)
    if told != plan.hidden:
        raise ConfigError(f"--hidden-seed {hidden_file} is not the file that this entry was judged with")
    return seed


def check_peer(plan: Plan, checkout: Path | None) -> None:
    """ConfigError where the entry's denoiser is PRX's and `checkout` does not hold the same one, or the reverse."""
    if (plan.peer is None) != (checkout is None):
        told = "is PRX's: give its checkout by --peer-checkout" if plan.peer else "is ours: leave out --peer-checkout"
        raise ConfigError(f"the entry's denoiser {told}")
    if checkout is not None and checkout_digest(checkout) != plan.peer:
        raise ConfigError(f"--peer-checkout {checkout} holds another denoiser than the entry's")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"--{key} {setting}" for key, setting in value) or "none"
    return "none" if value is None else str(value)
