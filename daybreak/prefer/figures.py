"""What is measured while preferences are learnt, on prompts that are not learnt from: whether the judge is won over,
and whether it is won at a cost that another judge sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from daybreak.prefer.panel import Panel
from daybreak.prefer.ranking import Draw, judged

NOISES = 2
"""Pictures of each prompt, which are to differ."""
SEED_OFFSET = 500
"""From the run's seed to that of these pictures' noise, which nothing is learnt from."""
SURE = 2.0
"""Standard errors by which the other judge's figure has to fall for an alarm."""
ALIKE = 0.8
"""An alarm where pictures of a prompt differ by less than this share of how they did."""


@dataclass(frozen=True)
class Seen:
    """What a model draws for the held-out prompts: [N * NOISES, 3, H, W], and the judges' scores of these, by name."""

    pictures: Tensor
    scores: Mapping[str, Tensor]

    @property
    def diversity(self) -> float:
        """Root mean squared difference of a prompt's pictures, mean over prompts, in [-1, 1] units."""
        a, b = self.pictures[0::NOISES], self.pictures[1::NOISES]
        return float((a - b).square().mean(dim=(1, 2, 3)).sqrt().mean())

    def drift(self, reference: Seen) -> float:
        """Root mean squared difference to the reference's pictures from the same noise, mean over pictures."""
        return float((self.pictures - reference.pictures).square().mean(dim=(1, 2, 3)).sqrt().mean())


@dataclass
class Yardstick:
    """prompts: held out, and as captions of the network. before: what the reference draws."""

    prompts: list[str]
    captions: list[str]
    panel: Panel
    seed: int
    before: Seen | None = field(default=None)

    def see(self, draw: Draw) -> Seen:
        """Draws and judges."""
        captions = [c for c in self.captions for _ in range(NOISES)]
        pictures = draw(captions, list(range(len(captions))), self.seed + SEED_OFFSET)
        prompts = [p for p in self.prompts for _ in range(NOISES)]
        return Seen(pictures, {name: judged(judge, pictures, prompts) for name, judge in self.panel.judges.items()})

    def figures(self, seen: Seen) -> dict[str, float]:
        """By name; drift once `before` is known."""
        found = {name: float(scores.mean()) for name, scores in seen.scores.items()}
        found["diversity"] = seen.diversity
        if self.before is not None:
            found["drift_from_reference"] = seen.drift(self.before)
        return found

    def alarms(self, seen: Seen) -> list[tuple[str, str]]:
        """(name, text) of what looks like a judge that is won over by what it does not see."""
        found = []
        before = self.before
        assert before is not None
        if "check" in seen.scores:
            change = seen.scores["check"] - before.scores["check"]
            error = float(change.std()) / math.sqrt(len(change))
            if float(change.mean()) < -SURE * max(error, 1e-9):
                was, now = float(before.scores["check"].mean()), float(seen.scores["check"].mean())
                text = (
                    f"the other judge's figure fell from {was:.3g} to {now:.3g}: what is learnt may please the judge "
                    "alone; a larger --beta, or fewer steps, stays nearer to the reference"
                )
                found.append(("check", text))
        if seen.diversity < ALIKE * before.diversity:
            text = (
                f"pictures of a prompt become alike: they differ by {seen.diversity:.3f}, and did by "
                f"{before.diversity:.3f}"
            )
            found.append(("diversity", text))
        return found
