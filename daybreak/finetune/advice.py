"""Alarms of the recipe: what the figures of a run say, and what to do about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

STUCK_LOSS, STUCK_EPOCHS = 0.3, 5.0
"""The recipe's: a loss that is still above this after this many epochs means too low a learning rate."""
SPIKE, SPIKES = 4.0, 3
"""A gradient norm this many times the median is a spike; this many spikes in the last hundred steps are an alarm."""
FORGETTING = 0.10
"""Rise of the loss on general prompts over the base's."""
DRIFT = 0.5
"""Way that pictures of general prompts moved, of that between two prompts (probes.drift). Where a small base's pictures
had all become the domain's it was 0.62 to 0.78, while the loss had risen by 2 to 6 % only (benchmarks/RESULTS.md)."""
OVERFITTING = 0.03
"""Rise of the held-out loss over its best."""
LEARNT = 0.002
"""Least fall of the held-out loss over the base's that counts as learning."""
QUIET_STEPS = 200
"""Steps between two alarms of the same kind, at least."""


@dataclass(frozen=True)
class Advice:
    """alarm: its name; text: what was seen and what to do."""

    alarm: str
    text: str


class Adviser:
    """Watches losses, gradients and probes; says each alarm once in a while."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=100)
        self._losses: deque[float] = deque(maxlen=200)
        self._best: float | None = None
        self._gain = 0.0
        self._rang: dict[str, int] = {}
        self.given: list[tuple[int, Advice]] = []

    def after_step(self, step: int, loss: float, norm: float, epochs: float, clip_norm: float) -> list[Advice]:
        """After each step; `epochs` passed so far."""
        self._norms.append(norm)
        self._losses.append(loss)
        found = []
        if len(self._norms) >= 20:
            median = float(np.median(self._norms))
            spikes = sum(n > SPIKE * median for n in self._norms)
            if spikes >= SPIKES and norm > SPIKE * median:
                found.append(
                    Advice(
                        "spikes",
                        f"{spikes} of the last {len(self._norms)} gradients are over {SPIKE:g} times their median "
                        f"{median:.3g}: they explode; halve --lr, or lower --clip-norm {clip_norm:g}",
                    )
                )
        mean = float(np.mean(self._losses))
        learns = (
            self._gain >= LEARNT
        )  # a base whose loss is high by nature, such as a small one, may learn all the same
        if epochs >= STUCK_EPOCHS and len(self._losses) >= 100 and mean > STUCK_LOSS and not learns:
            found.append(
                Advice(
                    "stuck",
                    f"the loss is still {mean:.3f} after {epochs:.1f} epochs (the recipe expects under "
                    f"{STUCK_LOSS}): the learning rate is too low; double --lr, or let --find-lr choose",
                )
            )
        return self._ring(step, found)

    def after_probe(
        self, step: int, start: dict[str, float], now: dict[str, float], epochs: float, drift: float | None = None
    ) -> list[Advice]:
        """After the probes; `start` are the base's. "domain" may be missing where nothing is held out."""
        found = []
        if drift is not None and drift > DRIFT:
            found.append(
                Advice(
                    "drift",
                    f"pictures of general prompts moved {drift:.0%} of the way between two prompts: samples drift from "
                    "the base; if it is to keep what it knew, lower --lr, train fewer epochs, take LoRA, or add class "
                    "pictures (--class-prompt)",
                )
            )
        change = now["general"] / start["general"] - 1
        if change > FORGETTING:
            found.append(
                Advice(
                    "forgetting",
                    f"on general prompts the loss is {change:.0%} above the base's: the model drifts and forgets; "
                    "lower --lr, train fewer epochs, take LoRA, or add class pictures (--class-prompt)",
                )
            )
        if "domain" in now:
            self._best = min(now["domain"], self._best if self._best is not None else now["domain"])
            gain = self._gain = 1 - now["domain"] / start["domain"]
            if now["domain"] > (1 + OVERFITTING) * self._best:
                found.append(
                    Advice(
                        "overfitting",
                        f"the held-out loss is {now['domain'] / self._best - 1:.1%} above its best: the pictures are "
                        "being learnt by heart; stop here, collect more of them, or lower --lr",
                    )
                )
            elif epochs >= STUCK_EPOCHS and gain < LEARNT:
                found.append(
                    Advice(
                        "no gain",
                        f"after {epochs:.1f} epochs the held-out loss is {gain:+.2%} below the base's: nothing is "
                        "learnt; double --lr, or let --find-lr choose",
                    )
                )
        return self._ring(step, found)

    def _ring(self, step: int, found: list[Advice]) -> list[Advice]:
        rung = [a for a in found if step - self._rang.get(a.alarm, -QUIET_STEPS) >= QUIET_STEPS]
        for advice in rung:
            self._rang[advice.alarm] = step
            self.given.append((step, advice))
        return rung
