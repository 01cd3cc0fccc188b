"""The bell of a run: a command that is run, or an address that gets a POST, at its end, its failure and at alarms.

It rings from a thread of its own, so no step waits for it; what fails in it is told in a line, in the log too, and
changes nothing. The bell is no setting of the run folder: a folder from elsewhere shall run no command here, and an
address is often a secret. A resumed run is told it again.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from rich.console import Console

from daybreak import __version__
from daybreak.config import ConfigError
from daybreak.config.bounds import Typed
from daybreak.run_folder import read_score
from daybreak.train.watch import AlarmRecord, MetricsRecord, SampleRecord, StepRecord

Event = Literal["finished", "stopped", "failed", "alarm"]
COMMAND_SECONDS, POST_SECONDS = 60.0, 10.0
"""The longest that a command or a POST may take."""
LAST_SECONDS = 5.0
"""The longest that the end of a run waits for its bells; a command goes on beyond it."""
QUIET_SECONDS = 600.0
"""The same alarm rings no more often."""


def bell_target(text: str, name: str) -> str:
    """A command or an http(s) address, as typed; ConfigError where it is neither."""
    scheme, separator, rest = text.strip().partition("://")
    if not text.strip():
        raise ConfigError(
            f"{name} is empty; it should be a command, or an address that begins with http:// or https://"
        )
    if separator and scheme.isalnum() and (scheme not in ("http", "https") or not urlsplit(text.strip()).hostname):
        raise ConfigError(f"{name} {scheme}://{rest[:20]}: an address begins with http:// or https:// and names a host")
    return text.strip()


Target = Annotated[
    str | None, Typed(bell_target, "<command|URL>"),
    "Command to run, or address to POST JSON to, at the end, at failure and at alarms; default: none.",
]  # fmt: skip


class Bell:
    """Watches a run and rings; as a context manager around all of it, the report included, it rings at the end.

    target: see `bell_target`; None: it is silent, as it is until `begin`. console: where troubles are told too.
    """

    def __init__(self, target: str | None, console: Console) -> None:
        self._target, self._console, self._run = target, console, Path()
        self._last: StepRecord | None = None
        self._rang: dict[str, float] = {}
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue()
        self._troubles: queue.Queue[str] = queue.Queue()
        self._begun = False

    def begin(self, run: Path) -> None:
        """From now on it rings for what happens in this run folder. By the first of several processes."""
        self._run, self._begun = run, self._target is not None
        if self._begun:
            threading.Thread(target=self._deliver, name="bell", daemon=True).start()

    def __enter__(self) -> Bell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            said = " ".join(str(error).split())
            named = type(error).__name__ in ("ConfigError", "TrainingError")
            self.ring("failed", said if named else f"{type(error).__name__}: {said}")
        elif error is not None or (self._last is not None and self._last.progress < 1):
            self.ring("stopped", "told to stop before its end")
        else:
            self.ring("finished", "")
        self._finish()

    def on_step(self, record: StepRecord) -> None:
        """Remembers where the run is."""
        self._last = record
        self._tell_troubles()

    def on_alarm(self, record: AlarmRecord) -> None:
        """Rings, unless the same alarm just did. A stall ends the process."""
        if record.alarm == "stall":
            self.ring("failed", record.text, record.alarm)
            self._finish()
        elif time.monotonic() - self._rang.get(record.alarm, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._rang[record.alarm] = time.monotonic()
            self.ring("alarm", record.text, record.alarm)

    def on_samples(self, record: SampleRecord) -> None:
        """Nobody is called for pictures."""

    def on_metrics(self, record: MetricsRecord) -> None:
        """Nor for figures."""

    def on_note(self, text: str) -> None:
        """Nor for notes: alarms say theirs too."""

    def ring(self, event: Event, why: str, alarm: str = "") -> None:
        """Tells the command or the address of an event; returns at once."""
        if not self._begun:
            return
        facts: dict[str, Any] = {"event": event, "run": str(self._run), "host": platform.node()}
        reached = ""
        if (last := self._last) is not None:
            facts |= {"step": last.step, "images": last.images, "progress": round(last.progress, 4), "loss": last.loss}
            reached = f" at step {last.step:,} ({last.progress:.0%}, loss {last.loss:.4f})"
        if event == "finished" and (score := read_score(self._run).get("overall")) is not None:
            facts["score"] = score
            reached += f", score {score:.1%}"
        if alarm:
            facts["alarm"] = alarm
        said = f"{self._run}: {event}{reached}{': ' + why if why else ''}"
        self._waiting.put(facts | {"text": said})

    def _deliver(self) -> None:
        assert self._target is not None
        send = _post if self._target.startswith(("http://", "https://")) else _run
        while True:
            facts = self._waiting.get()
            try:
                trouble = send(self._target, facts)
            except Exception as e:  # whatever it is, the run goes on
                trouble = f"{type(e).__name__}: {' '.join(str(e).split())}"
            if trouble is not None:
                self._troubles.put(f"the bell did not ring for {facts['event']!r}: {trouble}")
            self._waiting.task_done()

    def _finish(self) -> None:
        """Waits a little for what is under way."""
        until = time.monotonic() + LAST_SECONDS
        while self._waiting.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.02)
        self._tell_troubles()

    def _tell_troubles(self) -> None:
        """By the run's own thread, so that lines of the log do not meet."""
        while not self._troubles.empty():
            text = self._troubles.get()
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            line = {"event": "bell", "step": self._last.step if self._last is not None else 0, "text": text}
            with suppress(OSError), (self._run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")


def _post(address: str, facts: dict[str, Any]) -> str | None:
    """POSTs the facts as JSON, whose `text` is a sentence, as Slack's and Mattermost's webhooks read it."""
    host = urlsplit(address).hostname  # the rest of an address may be a secret
    headers = {"Content-Type": "application/json", "User-Agent": f"daybreak/{__version__}"}
    request = urllib.request.Request(address, json.dumps(facts).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=POST_SECONDS):
            return None
    except urllib.error.HTTPError as e:
        return f"{host} answers {e.code} {e.reason}"
    except OSError as e:
        return f"{host} cannot be reached: {getattr(e, 'reason', None) or e}"


def _run(command: str, facts: dict[str, Any]) -> str | None:
    """Runs the command by the shell, with the facts as DAYBREAK_EVENT, DAYBREAK_TEXT and so on."""
    named = {f"DAYBREAK_{name.upper()}": str(value) for name, value in facts.items()}
    process = subprocess.Popen(
        command, shell=True, env=os.environ | named, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"its command took longer than {COMMAND_SECONDS:.0f} s"
    if process.returncode == 0:
        return None
    last = " ".join(said.split()[-30:])
    return f"its command ended with code {process.returncode}{': ' + last if last else ''}"
