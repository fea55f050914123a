"""Gates and state updates of convolutional GRUs and LSTMs: the pointwise part after the convolutions.

All functions here take float32, float64, float16 or bfloat16 tensors of any strides, of one dtype and one
device, and return the dtype of the state. Half precision computes in float32 and rounds once at the end;
under autocast all tensors are cast to its dtype first. ``backend`` is ``auto``, ``reference``, ``cpu``,
``cuda`` or ``triton``; None leaves the choice to :mod:`rirn.ops.backends`. They raise ValueError where shapes, dtypes or
devices do not fit, and RirnError if a backend requested by name does not exist or cannot run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rirn.ops._call import autocast, call_reference, check_channels, check_images, widen
from rirn.ops._register import call, register
from rirn.ops.spec import Op


def gru_reset(
    logit_r: Tensor,  # [N, C, H, W]  any real; its sigmoid is the reset gate
    hidden: Tensor,  # [N, C, H, W]  h_{t-1}
) -> Tensor:  # [N, C, H, W]
    """Apply the reset gate of a GRU: ``sigmoid(logit_r) * hidden``. Plain PyTorch on every device.

    Example:
        >>> import torch
        >>> from rirn.ops import gru_reset
        >>> gru_reset(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
        tensor([[[[0.5000, 0.5000]]]])
    """
    logit_r, hidden = autocast(logit_r, hidden)
    check_images(hidden=hidden, logit_r=logit_r)
    return call_reference(_gru_reset, hidden.device.type, logit_r, hidden)


def _gru_reset(logit_r: Tensor, hidden: Tensor) -> Tensor:
    return (torch.sigmoid(widen(logit_r)) * widen(hidden)).to(hidden.dtype)


def gru_update_ref(
    hidden: Tensor,  # [N, C, H, W]  h_{t-1}
    logit_z: Tensor,  # [N, C, H, W]  any real; its sigmoid is the update gate
    logit_n: Tensor,  # [N, C, H, W]  any real; its tanh is the candidate
) -> Tensor:  # [N, C, H, W]  h_t
    """Update of a GRU: ``(1 - z) * hidden + z * tanh(logit_n)`` with ``z = sigmoid(logit_z)``."""
    z, candidate = torch.sigmoid(widen(logit_z)), torch.tanh(widen(logit_n))
    return ((1 - z) * widen(hidden) + z * candidate).to(hidden.dtype)


def _gru_rules(hidden: Tensor, logit_z: Tensor, logit_n: Tensor) -> None:
    check_images(hidden=hidden, logit_z=logit_z, logit_n=logit_n)


def gru_update(
    hidden: Tensor,  # [N, C, H, W]  h_{t-1}
    logit_z: Tensor,  # [N, C, H, W]  any real; its sigmoid is the update gate
    logit_n: Tensor,  # [N, C, H, W]  any real; its tanh is the candidate
    *,
    backend: str | None = None,
) -> Tensor:  # [N, C, H, W]  h_t
    """Advance the state of a GRU: ``(1 - z) * hidden + z * tanh(logit_n)`` with ``z = sigmoid(logit_z)``.

    Example:
        >>> import torch
        >>> from rirn.ops import gru_update
        >>> zeros = torch.zeros(1, 1, 1, 2)
        >>> gru_update(zeros + 1, zeros, zeros)
        tensor([[[[0.5000, 0.5000]]]])
    """
    result: Tensor = call(GRU_UPDATE, backend, hidden, logit_z, logit_n)
    return result


GRU_UPDATE = register(
    Op(
        "gru_update",
        gru_update_ref,
        _gru_rules,
        images=3,
        example=lambda n, c, h, w: [(n, c, h, w)] * 3,
        like="hidden",
        channels=(20,),
        operations=6,
    )
)


def lstm_update_ref(
    gates: Tensor,  # [N, 4C, H, W]  logits of i, f, o and g, C channels each, in this order
    cell: Tensor,  # [N, C, H, W]  c_{t-1}
) -> tuple[Tensor, Tensor]:  # h_t and c_t, [N, C, H, W] each
    """Update of an LSTM: ``c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)``, ``h_t = sigmoid(o) * tanh(c_t)``."""
    i, f, o, g = widen(gates).chunk(4, 1)
    new_cell = torch.sigmoid(f) * widen(cell) + torch.sigmoid(i) * torch.tanh(g)
    return (torch.sigmoid(o) * torch.tanh(new_cell)).to(cell.dtype), new_cell.to(cell.dtype)


def _lstm_rules(gates: Tensor, cell: Tensor) -> None:
    check_images(cell=cell)
    check_channels("gates", gates, "4C", (4 * cell.shape[1],), cell=cell)


def lstm_update(
    gates: Tensor,  # [N, 4C, H, W]  logits of i, f, o and g, C channels each, in this order
    cell: Tensor,  # [N, C, H, W]  c_{t-1}
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:  # h_t and c_t, [N, C, H, W] each
    """Advance the two states of an LSTM.

    ``c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)`` and ``h_t = sigmoid(o) * tanh(c_t)``.

    Example:
        >>> import torch
        >>> from rirn.ops import lstm_update
        >>> hidden, cell = lstm_update(torch.zeros(1, 4, 1, 1), torch.ones(1, 1, 1, 1))
        >>> cell.item()
        0.5
    """
    hidden, memory = call(LSTM_UPDATE, backend, gates, cell)
    return hidden, memory


LSTM_UPDATE = register(
    Op(
        "lstm_update",
        lstm_update_ref,
        _lstm_rules,
        images=2,
        example=lambda n, c, h, w: [(n, 4 * c, h, w), (n, c, h, w)],
        like="cell",
        channels=(20,),
        operations=9,
    )
)
