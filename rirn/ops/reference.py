"""Every op in plain PyTorch: the specification that all other forms are tested against.

The functions here are differentiable by autograd as they stand. In half precision all but the convolutions of
conv3x3_chain compute in float32 and round once at the end; in float32 and float64 they compute in the dtype of
their inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_DTYPES = (torch.float16, torch.bfloat16)


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in HALF_DTYPES else x


def atb_blend(
    f_prev: Tensor,  # [N, C, H, W]  blended features of frame t-1
    f_cur: Tensor,  # [N, C, H, W]  features of frame t
    logit_prev: Tensor,  # [N, C or 1, H, W]  any real; its sigmoid is the gate of f_prev
    logit_cur: Tensor,  # [N, C or 1, H, W]  any real; its sigmoid is the gate of f_cur
    max_weight: float = 1.0,  # scales the gate of f_cur alone
) -> Tensor:  # [N, C, H, W]
    """Adaptive temporal blending, equation 4 of the paper: a conical combination, the two weights need not
    sum to one.

    ``sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur``
    """
    prev, cur = _widen(f_prev), _widen(f_cur)
    gate_prev, gate_cur = torch.sigmoid(_widen(logit_prev)), torch.sigmoid(_widen(logit_cur))
    return (gate_prev * prev + max_weight * gate_cur * cur).to(f_cur.dtype)


def irm_update(
    hidden: Tensor,  # [N, C, H, W]  h_t, hidden state of the base network at frame t
    inner: Tensor,  # [N, C, H, W]  inner state of frame t-1
    weights: Sequence[Tensor],  # joint, res1a, res1b, res2a, res2b: [2C, 2C, 3, 3]; out: [C, 2C, 3, 3]
    biases: Sequence[Tensor],  # five of [2C], then [C]
) -> Tensor:  # [N, C, H, W]  inner state of frame t
    """One step of the inner-recurrence module, equation 3: joint conv + ReLU, two residual blocks, output
    conv (all 3x3)."""
    joint, res1a, res1b, res2a, res2b, out = [
        (_widen(w), _widen(b)) for w, b in zip(weights, biases, strict=True)
    ]
    x = torch.relu(F.conv2d(torch.cat([_widen(hidden), _widen(inner)], 1), *joint, padding=1))
    x = x + F.conv2d(torch.relu(F.conv2d(x, *res1a, padding=1)), *res1b, padding=1)
    x = x + F.conv2d(torch.relu(F.conv2d(x, *res2a, padding=1)), *res2b, padding=1)
    return F.conv2d(x, *out, padding=1).to(hidden.dtype)


def conv3x3_chain(
    inputs: Sequence[Tensor],  # [N, C_k, H, W], read as if concatenated along the channels
    weights: Sequence[Tensor],  # [out, in, 3, 3]
    biases: Sequence[Tensor],  # [out]
    slopes: Sequence[float],  # of the activations below zero: 0 is ReLU, 1 none
    skips: Sequence[bool],  # whether a layer adds the input of the layer before it
    unshuffle: bool = False,  # the layers see pixel_unshuffle(input, 2) of each input
    shuffle: bool = False,  # the result is pixel_shuffle(x, 2) of the last layer's x
) -> Tensor:  # [N, out of the last layer, H, W]
    """A run of 3x3 convolutions: ``x_l = act_l(conv_l(x_{l-1}) + bias_l [+ x_{l-2}])``.

    In the dtype given, unlike the other functions here: whole networks run on it where no kernel of ours does, and there the
    library's half-precision convolutions are wanted.
    """
    if unshuffle:
        inputs = [_unshuffled(x) for x in inputs]
    before = x = inputs[0] if len(inputs) == 1 else torch.cat(list(inputs), 1)
    for weight, bias, slope, skip in zip(weights, biases, slopes, skips, strict=True):
        y = F.conv2d(x, weight, bias, padding=1)
        y = before + y if skip else y
        if slope != 1:
            y = torch.relu(y) if slope == 0 else F.leaky_relu(y, slope)
        before, x = x, y
    return _shuffled(x) if shuffle else x


# torch returns an empty batch from pixel_unshuffle as it is, and so from the derivative of pixel_shuffle.
def _unshuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return F.pixel_unshuffle(x, 2) if x.numel() else x.reshape(n, 4 * c, h // 2, w // 2)


def _shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return F.pixel_shuffle(x, 2) if x.numel() else x.reshape(n, c // 4, 2 * h, 2 * w)


def _clamped_to_unit(x: Tensor) -> Tensor:
    """``x.clamp(0, 1)`` that lets gradients through at both ends, as torch's own did until 2.14, which stops them there."""
    return torch.where((x >= 0) & (x <= 1), x, x.detach().clamp(0, 1))


def dtb_blend(
    f_prev: Tensor,  # [N, C, H, W]  blended features of frame t-1
    f_cur: Tensor,  # [N, C, H, W]  features of frame t
    logit: Tensor,  # [N, C or 1, H, W]  any real
    beta: Tensor,  # []  lower end of the weight of f_cur
) -> Tensor:  # [N, C, H, W]
    """Dynamic temporal blending of OVD: a convex combination, the two weights sum to one.

    ``w * f_cur + (1 - w) * f_prev`` with ``w = clamp(|tanh(logit)| + beta, 0, 1)``
    """
    prev, cur = _widen(f_prev), _widen(f_cur)
    weight = _clamped_to_unit(torch.tanh(_widen(logit)).abs() + _widen(beta))
    return (weight * cur + (1 - weight) * prev).to(f_cur.dtype)


def gru_reset(
    logit_r: Tensor,  # [N, C, H, W]  any real; its sigmoid is the reset gate
    hidden: Tensor,  # [N, C, H, W]  h_{t-1}
) -> Tensor:  # [N, C, H, W]
    """Reset gate of a GRU: ``sigmoid(logit_r) * hidden``."""
    return (torch.sigmoid(_widen(logit_r)) * _widen(hidden)).to(hidden.dtype)


def gru_update(
    hidden: Tensor,  # [N, C, H, W]  h_{t-1}
    logit_z: Tensor,  # [N, C, H, W]  any real; its sigmoid is the update gate
    logit_n: Tensor,  # [N, C, H, W]  any real; its tanh is the candidate
) -> Tensor:  # [N, C, H, W]  h_t
    """Update of a GRU: ``(1 - z) * hidden + z * tanh(logit_n)`` with ``z = sigmoid(logit_z)``."""
    z, candidate = torch.sigmoid(_widen(logit_z)), torch.tanh(_widen(logit_n))
    return ((1 - z) * _widen(hidden) + z * candidate).to(hidden.dtype)


def lstm_update(
    gates: Tensor,  # [N, 4C, H, W]  logits of i, f, o and g, C channels each, in this order
    cell: Tensor,  # [N, C, H, W]  c_{t-1}
) -> tuple[Tensor, Tensor]:  # h_t and c_t, [N, C, H, W] each
    """Update of an LSTM: ``c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)``, ``h_t = sigmoid(o) * tanh(c_t)``."""
    i, f, o, g = _widen(gates).chunk(4, 1)
    new_cell = torch.sigmoid(f) * _widen(cell) + torch.sigmoid(i) * torch.tanh(g)
    return (torch.sigmoid(o) * torch.tanh(new_cell)).to(cell.dtype), new_cell.to(cell.dtype)


def fac(
    features: Tensor,  # [N, C, H, W]
    kernels: Tensor,  # [N, 25C, H, W]  channel 25c + 5i + j: weight of row i, column j for feature channel c
) -> Tensor:  # [N, C, H, W]
    """Filter adaptive convolution of STFAN: every pixel of every channel has its own 5x5 filter; edges are
    replicated.

    ``out[n, c, y, x] = sum_ij kernels[n, 25c + 5i + j, y, x] * padded[n, c, y + i, x + j]``
    """
    c, h, w = features.shape[1:]
    padded = F.pad(_widen(features), (2, 2, 2, 2), mode="replicate")
    taps = torch.unflatten(kernels, 1, (c, 25))
    out = torch.zeros_like(features, dtype=padded.dtype)
    # Tap by tap: the 25 shifted copies of the features at once would be as large as the kernels.
    for tap in range(25):
        i, j = divmod(tap, 5)
        out = out + _widen(taps[:, :, tap]) * padded[:, :, i : i + h, j : j + w]
    return out.to(features.dtype)
