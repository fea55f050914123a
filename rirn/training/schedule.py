"""The learning rate over the steps of a run."""

from __future__ import annotations

import math

from rirn.training.config import OptimConfig


def learning_rate(config: OptimConfig, step: int) -> float:
    """Return the learning rate of a step counted from 0, for settings in steps: a linear ``warmup``, then the schedule.

    ``cosine`` falls along half a cosine to zero; ``anneal`` multiplies by ``anneal_factor`` at each step of ``anneal_at``.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "anneal":
        return config.lr * config.anneal_factor ** sum(step >= at for at in config.anneal_at)
    share = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * share))
