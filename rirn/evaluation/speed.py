"""What RIRN and its baselines cost in time: a step with them relative to the base network, beside the paper's ratio."""

from __future__ import annotations

import dataclasses

import torch

from rirn.evaluation import paper
from rirn.measure.timing import Job, alternate, clock_for
from rirn.models import create_model
from rirn.models.deblurrer import VideoDeblurrer

WARM_UP = 3
"""Steps before the first timed one, for delays to fill and libraries to choose their algorithms."""


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Time of a step of a network with an addition, relative to its base network."""

    model: str
    ours: float
    paper: float | None
    """None if the paper has no time for this network."""
    rounds: int
    """Alternating rounds whose medians were compared."""


def added_time(
    model: str,
    *,
    size: tuple[int, int] = (720, 1280),
    device: str | torch.device = "cpu",
    rounds: int = 20,
    seconds: float = 60.0,
    **options,
) -> Ratio:
    """Time steps of a network with an addition and of its base network alternately, each in its steady state.

    The state carries over from step to step; batch 1, float32, with GPU synchronisation. Weights do not affect the time and
    are random.

    Args:
        model: for example ``rdbn+gsa``; a base network alone stands for itself with RIRN.
        size: height and width of the frames, pixels.
        device: where to run.
        rounds: largest number of rounds.
        seconds: time for all rounds together, but at least three are timed.
        **options: options of both networks, for example ``width``; see :func:`rirn.create_model`.

    Raises:
        RirnError: there is no such network.
    """
    base = model.partition("+")[0]
    model = f"{base}+rirn" if model == base else model
    frame = torch.rand(1, 3, *size, device=device)
    with torch.inference_mode():
        jobs = {}
        for name in (base, model):
            step = _Step(create_model(name, **options).eval().to(device), frame)
            for _ in range(WARM_UP + step.model.delay):
                step(None)
            jobs[name] = Job(step)
        # A GPU's clock waits for all work before it reads its events.
        spreads = alternate(jobs, clock_for(frame.device), rounds, seconds)
    plain, more = (spreads[name] for name in jobs)
    return Ratio(model, more.median / plain.median, paper.time_ratio(model), plain.rounds)


class _Step:
    """Restores one more frame of an endless video at each call."""

    def __init__(self, model: VideoDeblurrer, frame: torch.Tensor):
        self.model, self._frame, self._state = model, frame, None

    def __call__(self, _) -> None:
        _, self._state = self.model.step(self._frame, self._state)


def format_ratios(ratios: list[Ratio], size: tuple[int, int]) -> str:
    """A row per network."""
    lines = [f"{'network':16s} {'time over base':>15s} {'in the paper':>13s} {'rounds':>7s}"]
    for r in ratios:
        theirs = "-" if r.paper is None else f"{r.paper:.2f}"
        lines.append(f"{r.model:16s} {r.ours:15.2f} {theirs:>13s} {r.rounds:7d}")
    lines.append(
        f"time of a step at {size[1]}x{size[0]}, batch 1, float32, steady state, random weights; medians of alternating rounds"
    )
    return "\n".join(lines)
