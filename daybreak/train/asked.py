"""What a run is asked for while it trains (run_requests.py), done between two steps and told in its log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from daybreak.parallel import Ranks
from daybreak.run_requests import Inbox, Request
from daybreak.train.pauses import Pauses
from daybreak.train.watch import LogFiles


class Asked:
    """The first process looks; all learn of a request after the same step, by the exchange that each step has anyway.

    open: what is still to be done.
    """

    def __init__(self, run: Path, ranks: Ranks, files: LogFiles | None, note: Callable[[str], None]) -> None:
        self._run, self._ranks, self._files, self._note = run, ranks, files, note
        self._inbox = Inbox(run, note) if ranks.first else None
        self._found: list[Request] = []
        self.open: list[Request] = []

    def look(self) -> bool:
        """Whether there is something new; of the first process, and once a step."""
        if self._inbox is not None:
            self._found += self._inbox.new()
        return bool(self._found)

    def share(self) -> None:
        """Tells all processes what was found. By every process, after the same step."""
        self.open += self._ranks.gather(self._found)[0]
        self._found = []

    @property
    def stop(self) -> bool:
        """Whether the run is asked to end."""
        return any(r.kind == "stop" for r in self.open)

    def obey(self, pauses: Pauses, step: int) -> None:
        """Does what is asked, but for stopping. By every process."""
        wanted = [r for r in self.open if r.kind != "stop"]
        self.open = [r for r in self.open if r.kind == "stop"]
        for request in wanted:
            if request.kind == "checkpoint":
                trouble = pauses.save(wait=True)
                self._answer(request, step, trouble or f"the checkpoint of step {step:,} is saved")
            else:
                drawn = pauses.draw(request.prompts)
                where = "could not be written" if drawn is None else ", ".join(drawn)
                self._answer(request, step, f"samples of step {step:,}: {where}")

    def stopped(self, step: int) -> None:
        """The run has ended as it was asked to, and is saved."""
        for request in self.open:
            if request.kind == "stop":
                self._answer(request, step, f"stopped at step {step:,} and saved")

    def close(self) -> None:
        """The run trains no more."""
        if self._inbox is not None:
            self._inbox.close()

    def _answer(self, request: Request, step: int, text: str) -> None:
        if self._inbox is None or self._files is None:
            return
        self._files.on_request(request, text, step)
        self._note(f"as asked by {request.by or 'a file in requests/'}: {text}")
        self._inbox.done(request)
