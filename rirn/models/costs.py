"""What each model costs: parameters, arithmetic, memory of the state, delay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.registry import create_model, model_names
from rirn.nn import FAC
from rirn.ops import use_backend


@dataclasses.dataclass(frozen=True)
class Row:
    """Costs of one model."""

    name: str
    parameters: int
    gmacs: float
    """Multiply-accumulates, in 1e9, for one frame within a video: convolutions, linear layers and FAC."""
    state_mib: float
    """Size of the state between two frames, in MiB of float32."""
    delay: int
    """Frames of look-ahead."""


def summary(
    names: Iterable[str] | None = None, *, frame_size: tuple[int, int] = (720, 1280), **options: Any
) -> list[Row]:
    """Count the costs of models for one frame of a video, without computing or allocating anything large.

    Args:
        names: names of models, as for :func:`rirn.create_model`; all by default.
        frame_size: height and width of the frames, pixels.
        **options: options of the models, for example ``width=0.5``; every model must have all of them.

    Raises:
        RirnError: an unknown name or option.

    Example:
        >>> from rirn.models import summary
        >>> row = summary(["ifi-rnn+rirn"])[0]
        >>> row.parameters, round(row.gmacs, 2), row.delay
        (1508763, 94.07, 0)
    """
    rows = []
    for name in model_names() if names is None else names:
        with torch.device("meta"):
            model = create_model(name, **options).eval()
        parameters = sum(p.numel() for p in model.parameters())
        rows.append(Row(name, parameters, *_cost(model, *frame_size), model.delay))
    return rows


@torch.no_grad()
def _cost(model: VideoDeblurrer, height: int, width: int) -> tuple[float, float]:
    """GMACs of a step that restores a frame, and MiB of the state after it, for one frame of that size."""
    frame = torch.empty(1, 3, height, width, device="meta")
    filter_macs: list[int] = []

    # Torch's counter does not know FAC: one product per element of its filters.
    def count(module: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
        filter_macs.append(inputs[1].numel())

    for module in model.modules():
        if isinstance(module, FAC):
            module.register_forward_hook(count)
    state = sharp = None
    with use_backend("reference"):  # only there does the counter see the convolutions
        while sharp is None:  # the first step that restores a frame may also set up the state
            sharp, state = model.step(frame, state)
        filter_macs.clear()
        with FlopCounterMode(display=False) as counter:
            _, state = model.step(frame, state)
    macs = counter.get_total_flops() / 2 + sum(filter_macs)
    return macs / 1e9, sum(t.numel() * 4 for t in state.tensors().values()) / 2**20
