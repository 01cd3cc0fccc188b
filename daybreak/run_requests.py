"""What a run that trains is asked to do from outside: a file for each request in RUN/requests. Needs no torch.

A run that trains holds a lock on RUN/requests/lock, which ends with its process: so others know, on any machine that
sees the folder, whether there is anyone to ask. A request is a file there until the run has done it and said so in
log.jsonl. What was asked of a process that died is not done by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

from daybreak.config import ConfigError
from daybreak.files import write_whole
from daybreak.run_folder import check_there, read_events

Kind = Literal["stop", "checkpoint", "sample"]
FOLDER, LOCK = "requests", "lock"
JUDGING = "judging.lock"
"""Is there, and locked, as long as a run that has trained is judged."""
LOOK_SECONDS = 1.0
"""A run looks for requests no more often."""
LOCK_SECONDS = 2.0
"""How long a run tries to get the lock, which those who ask hold for an instant."""
MOST_PROMPTS, MOST_LETTERS = 64, 2000
"""In a request."""


@dataclass(frozen=True)
class Request:
    """kind: stop (save and end, as Ctrl-C does), checkpoint (write one now) or sample (draw now, `prompts` too).

    by: who asks, in words for the log.
    """

    id: str
    kind: Kind
    prompts: tuple[str, ...] = ()
    by: str = ""


def trains(run: Path) -> bool:
    """Whether a process trains in the run folder now: whether someone holds the lock."""
    return _locked(run / FOLDER / LOCK)


def is_judged(run: Path) -> bool:
    """Whether a process is within `judging`."""
    return _locked(run / JUDGING)


@contextmanager
def judging(run: Path) -> Generator[None]:
    """Lets others see that the run is being judged. Where the folder can't be written or locked, they don't."""
    with ExitStack() as held:
        with suppress(OSError):
            file = held.enter_context((run / JUDGING).open("ab"))
            held.callback((run / JUDGING).unlink, missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as e:
        return e.errno == errno.EWOULDBLOCK
    return False


def ask(run: Path, kind: Kind, prompts: tuple[str, ...] = (), by: str = "") -> Request:
    """Leaves a request for a run that trains, and returns it at once; `answer` says what came of it.

    Raises ConfigError where no run trains there, for prompts that are none or too many, and where it can't be written.
    """
    check_there(run)
    prompts = tuple(dict.fromkeys(prompts))
    _check(kind, prompts)
    if not trains(run):
        raise ConfigError(f"{run} does not train now, so it cannot answer")
    request = Request(f"{time.time_ns()}-{os.getpid()}", kind, prompts, by)
    try:
        write_whole(run / FOLDER / f"{request.id}.json", json.dumps(asdict(request), ensure_ascii=False))
    except OSError as e:
        raise ConfigError(f"{run / FOLDER} cannot be written: {e.strerror}") from None
    return request


def answer(run: Path, request: Request) -> str | None:
    """What the run has done of a request, in words; None as long as it has not, or never will (`waits`)."""
    found = (e for e in reversed(read_events(run)) if e.get("event") == "request" and e.get("id") == request.id)
    return next((e["text"] for e in found), None)


def waits(run: Path, request: Request) -> bool:
    """Whether a request is still to be done: its file lies there, and a process trains."""
    return (run / FOLDER / f"{request.id}.json").is_file() and trains(run)


class Inbox:
    """The side of the run: holds the lock, gives what is asked, and drops what was asked of a process before this one.

    Where the lock cannot be had, `note` is told, and nothing is ever asked.
    """

    def __init__(self, run: Path, note: Callable[[str], None]) -> None:
        self._folder = run / FOLDER
        self._seen: set[str] = set()
        self._next_look = 0.0
        self._lock: IO[Any] | None = self._hold(note)
        if self._lock is not None:
            for path in self._folder.glob("*.json"):
                path.unlink(missing_ok=True)

    def new(self) -> list[Request]:
        """What is asked since the last call; looks into the folder once a second at most."""
        now = time.monotonic()
        if self._lock is None or now < self._next_look:
            return []
        self._next_look = now + LOOK_SECONDS
        try:
            names = sorted(e.name for e in os.scandir(self._folder) if e.name.endswith(".json") and e.name[0] != ".")
        except OSError:  # a network folder that is away for a moment
            return []
        found = []
        for name in names:
            if name not in self._seen:
                self._seen.add(name)
                found += self._read(self._folder / name)
        return found

    def done(self, request: Request) -> None:
        """The request is answered: its file goes."""
        with suppress(OSError):
            (self._folder / f"{request.id}.json").unlink()

    def close(self) -> None:
        """Nobody can be asked any more."""
        if self._lock is None:
            return
        with suppress(OSError):
            for path in self._folder.iterdir():
                path.unlink()
            self._folder.rmdir()
        self._lock.close()
        self._lock = None

    def _hold(self, note: Callable[[str], None]) -> IO[Any] | None:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                self._folder.mkdir(exist_ok=True)
                file = (self._folder / LOCK).open("ab")
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except OSError as e:
                if e.errno != errno.EWOULDBLOCK or time.monotonic() > until:
                    why = "another process holds it" if e.errno == errno.EWOULDBLOCK else e.strerror
                    note(f"{self._folder / LOCK} cannot be locked ({why}): daybreak tell does not reach this run")
                    return None
            time.sleep(0.05)

    def _read(self, path: Path) -> list[Request]:
        """The request in a file; a file that holds none is removed."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            prompts = tuple(dict.fromkeys(map(str, raw["prompts"])))
            _check(raw["kind"], prompts)
            return [Request(path.stem, raw["kind"], prompts, str(raw["by"]))]
        except (OSError, ValueError, KeyError, TypeError):  # ConfigError is a ValueError
            path.unlink(missing_ok=True)
            return []


def _check(kind: str, prompts: tuple[str, ...]) -> None:
    if kind not in get_args(Kind):
        raise ConfigError(f"a run is asked for one of {', '.join(get_args(Kind))}, not {kind!r}")
    if prompts and kind != "sample":
        raise ConfigError(f"prompts have no effect beside {kind}: they go with sample")
    if len(prompts) > MOST_PROMPTS:
        raise ConfigError(f"{len(prompts)} prompts; a run draws at most {MOST_PROMPTS} at once")
    for prompt in prompts:
        if not prompt.strip() or len(prompt) > MOST_LETTERS:
            raise ConfigError(f"a prompt has 1 to {MOST_LETTERS} letters, and this one {len(prompt.strip())}")
