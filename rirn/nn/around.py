"""Recurrence in recurrence around any recurrent cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rirn.nn.atb import ATB
from rirn.nn.irm import IRM
from rirn.nn.reconstructor import Fuse


class RIRNState(NamedTuple):
    """What :class:`RIRN` remembers between two frames."""

    cell: Any
    """State of the cell, as it returned it."""
    inner: Tensor | None
    """h~_t, [N, hidden, H, W]; None without IRM."""
    blended: Tensor | None
    """f~_t, [N, features, H, W]; None without ATB."""

    def detach(self) -> RIRNState:
        """The same values without history, for truncated back-propagation through time."""
        return RIRNState(*(_map(Tensor.detach, part) for part in self))


class RIRN(nn.Module):
    """Any recurrent cell with IRM, ATB and the layers that fuse what they remember (equations 1 to 4).

    ``f_t, h_t = cell(x_t)``, ``h~_t = IRM(h_t, h~_{t-1})``, ``f~_t = ATB(f_t, f~_{t-1})``, and the output is
    ``head(fuse([f_t, h_t, h~_t, f~_t]))``. The cell itself sees none of this. It may be for any task and any kind of frame.

    Args:
        cell: ``cell(frame, state) -> (f_t, h_t, state)``; the state can be anything, None at the start of a sequence. f_t
            [N, features, H, W] and h_t [N, hidden, H, W] have the same height and width.
        head: reads [N, out_channels, H, W] and returns the output.
        features: channels of f_t.
        hidden: channels of h_t.
        out_channels: channels that the head reads; by default those of f_t.
        irm: add IRM; without it the output does not depend on h~_t.
        atb: add ATB; without it the output does not depend on f~_t. With neither, this is the control of an ablation: the
            added layers without memory.
        blocks: residual blocks after the fusing convolution; 0 for a head with its own activations.
        max_weight: upper bound of the gate of f_t, see :class:`ATB`.
        decay: upper bound of the gate of f~_{t-1}, likewise.

    Example:
        >>> import torch
        >>> from rirn.nn import RIRN
        >>> class Cell(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.f, self.h = torch.nn.Conv2d(1 + 4, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 3, padding=1)
        ...
        ...     def forward(self, frame, state):
        ...         h = frame.new_zeros(frame.shape[0], 4, *frame.shape[2:]) if state is None else state
        ...         f = self.f(torch.cat([frame, h], 1)).relu()
        ...         h = self.h(f).tanh()
        ...         return f, h, h
        >>> net, state = RIRN(Cell(), torch.nn.Conv2d(8, 1, 3, padding=1), features=8, hidden=4), None
        >>> for frame in torch.rand(3, 2, 1, 16, 24):
        ...     image, state = net(frame, state)
        >>> image.shape, state.inner.shape, state.blended.shape
        (torch.Size([2, 1, 16, 24]), torch.Size([2, 4, 16, 24]), torch.Size([2, 8, 16, 24]))
    """

    def __init__(
        self,
        cell: nn.Module,
        head: nn.Module,
        *,
        features: int,
        hidden: int,
        out_channels: int | None = None,
        irm: bool = True,
        atb: bool = True,
        blocks: int = 1,
        max_weight: float = 1.0,
        decay: float = 1.0,
    ):
        super().__init__()
        self.channels = {"f_t": features, "h_t": hidden}
        self.cell, self.head = cell, head
        self.irm = IRM(hidden) if irm else None
        self.atb = ATB(features, max_weight=max_weight, decay=decay) if atb else None
        width = (1 + atb) * features + (1 + irm) * hidden
        self.fuse = Fuse(width, features if out_channels is None else out_channels, blocks)

    def forward(
        self,
        frame: Any,  # x_t, as the cell reads it
        state: RIRNState | None = None,  # None at the start of a sequence
    ) -> tuple[Any, RIRNState]:
        """Return the output for a frame, and the state for the next one.

        Raises:
            ValueError: f_t and h_t are not [N, C, H, W] with the declared channels and one size.
        """
        cell_state, inner, blended = (None, None, None) if state is None else state
        features, hidden, cell_state = self.cell(frame, cell_state)
        self._check(features, hidden)
        reads = [features, hidden]
        if self.irm is not None:
            inner = self.irm(hidden=hidden, inner=torch.zeros_like(hidden) if inner is None else inner)
            reads.append(inner)
        if self.atb is not None:
            previous = torch.zeros_like(features) if blended is None else blended
            blended = self.atb(f_prev=previous, f_cur=features)
            reads.append(blended)
        return self.head(self.fuse(reads)), RIRNState(cell_state, inner, blended)

    def _check(self, features: Tensor, hidden: Tensor) -> None:
        shapes = {"f_t": features.shape, "h_t": hidden.shape}
        n, _, *size = features.shape
        if any(
            [*shape] != [n, self.channels[name], *size] or len(size) != 2 for name, shape in shapes.items()
        ):
            raise ValueError(
                f"the cell must return f_t [N, {self.channels['f_t']}, H, W] and h_t [N, {self.channels['h_t']}, H, W]; "
                f"got {[*features.shape]} and {[*hidden.shape]}"
            )


def _map(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """Apply a function to every tensor within tuples, lists and dictionaries."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, dict):
        return type(state)((key, _map(function, value)) for key, value in state.items())
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(_map(function, part) for part in state))
    return type(state)(_map(function, part) for part in state) if isinstance(state, tuple | list) else state
