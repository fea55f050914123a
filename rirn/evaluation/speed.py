"""What RIRN costs in time: a step with it over a step without, as the paper's frames per second say it."""

from __future__ import annotations

import dataclasses

import torch

from rirn.errors import RirnError
from rirn.measure.timing import Job, alternate, clock_for
from rirn.models import create_model
from rirn.models.deblurrer import VideoDeblurrer

PAPER_FPS = {
    "ifi-rnn": (20.15, 12.48),
    "strcnn": (7.69, 5.94),
    "stfan": (6.66, 4.42),
    "rdbn": (10.50, 8.53),
    "gru": (22.24, 20.94),
    "lstm": (19.14, 16.90),
}
"""Frames per second without and with RIRN in table 3 of the paper, 1280x720, on a GPU that it does not name."""

WARM_UP = 3
"""Steps before the first timed one, so that delays have filled and libraries have chosen their algorithms."""


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Time of a step with RIRN over that of the base network's."""

    base: str
    ours: float
    paper: float
    rounds: int
    """Alternating rounds whose medians were compared."""


def added_time(
    base: str,
    *,
    size: tuple[int, int] = (720, 1280),
    device: str | torch.device = "cpu",
    rounds: int = 20,
    seconds: float = 60.0,
    **options,
) -> Ratio:
    """Time steps of a base network and of the same with RIRN by turns, each in its steady state.

    The state goes on from step to step, batch 1, float32; a GPU is waited for. Weights do not matter for the time and are random.

    Args:
        base: one of the paper's six base networks.
        size: height and width of the frames, pixels.
        device: where to run.
        rounds: at most.
        seconds: for all rounds together, but three are always timed.
        **options: of the base network, for example ``width``; see :func:`rirn.create_model`.

    Raises:
        RirnError: the paper has no such base network.
    """
    if base not in PAPER_FPS:
        raise RirnError(f"the paper has no speeds of {base!r}; there are {', '.join(PAPER_FPS)}")
    frame = torch.rand(1, 3, *size, device=device)
    with torch.inference_mode():
        jobs = {}
        for name in (base, f"{base}+rirn"):
            step = _Step(create_model(name, **options).eval().to(device), frame)
            for _ in range(WARM_UP + step.model.delay):
                step(None)
            jobs[name] = Job(step)
        # A GPU's clock waits for all work before it reads its events.
        spreads = alternate(jobs, clock_for(frame.device), rounds, seconds)
    plain, with_rirn = (spreads[name] for name in jobs)
    before, after = PAPER_FPS[base]
    return Ratio(base, with_rirn.median / plain.median, before / after, plain.rounds)


class _Step:
    """One more frame of an endless video."""

    def __init__(self, model: VideoDeblurrer, frame: torch.Tensor):
        self.model, self._frame, self._state = model, frame, None

    def __call__(self, _) -> None:
        _, self._state = self.model.step(self._frame, self._state)


def format_ratios(ratios: list[Ratio], size: tuple[int, int]) -> str:
    """A row per base network."""
    lines = [f"{'base network':14s} {'base : +rirn':>14s} {'in the paper':>14s} {'rounds':>7s}"]
    for r in ratios:
        lines.append(f"{r.base:14s} {f'1 : {r.ours:.2f}':>14s} {f'1 : {r.paper:.2f}':>14s} {r.rounds:7d}")
    lines.append(
        f"time of a step at {size[1]}x{size[0]}, batch 1, float32, steady state, random weights; medians of alternating rounds"
    )
    return "\n".join(lines)
