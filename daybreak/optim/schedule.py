"""The learning rate over a run: warm-up, constant, linear decay to zero."""

from __future__ import annotations


def learning_rate_factor(step: int, progress: float, warmup_steps: int, decay_share: float) -> float:
    """What the base learning rate is multiplied by at `step` (from 0), when the share `progress` of the budget is used.

    Rises over the first `warmup_steps` steps, then stays at 1 until the last `decay_share` of the budget, and falls
    linearly to 0 at its end ("warmup-stable-decay", arXiv 2404.06395).
    """
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    decay = min(1.0, (1 - progress) / decay_share) if decay_share > 0 else 1.0
    return max(0.0, min(warmup, decay))
