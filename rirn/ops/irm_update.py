"""One step of the inner-recurrence module (equation 3 of the paper) without a concatenation and with fused epilogues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rirn.ops._call import check_images, check_kind, widen
from rirn.ops._register import call, register
from rirn.ops.conv3x3_chain import FASTER_IN_FLOAT64, conv3x3_chain_library
from rirn.ops.spec import Op

LAYERS = ("joint", "res1a", "res1b", "res2a", "res2b", "out")
SLOPES = (0.0, 0.0, 1.0, 0.0, 1.0, 1.0)  # of the activation after each, as in conv3x3_chain
SKIPS = (0, 0, 1, 0, 1, 0)


def irm_update_ref(
    hidden: Tensor,  # [N, C, H, W]  h_t, hidden state of the base network at frame t
    inner: Tensor,  # [N, C, H, W]  inner state of frame t-1
    weights: Sequence[Tensor],  # joint, res1a, res1b, res2a, res2b: [2C, 2C, 3, 3]; out: [C, 2C, 3, 3]
    biases: Sequence[Tensor],  # five of [2C], then [C]
) -> Tensor:  # [N, C, H, W]  inner state of frame t
    """One step of the inner-recurrence module, equation 3: joint conv + ReLU, two residual blocks, output
    conv (all 3x3)."""
    joint, res1a, res1b, res2a, res2b, out = [
        (widen(w), widen(b)) for w, b in zip(weights, biases, strict=True)
    ]
    x = torch.relu(F.conv2d(torch.cat([widen(hidden), widen(inner)], 1), *joint, padding=1))
    x = x + F.conv2d(torch.relu(F.conv2d(x, *res1a, padding=1)), *res1b, padding=1)
    x = x + F.conv2d(torch.relu(F.conv2d(x, *res2a, padding=1)), *res2b, padding=1)
    return F.conv2d(x, *out, padding=1).to(hidden.dtype)


def _rules(hidden: Tensor, inner: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
    if len(weights) != len(LAYERS) or len(biases) != len(LAYERS):
        raise ValueError(
            f"weights and biases must be six tensors each ({', '.join(LAYERS)}); "
            f"got {len(weights)} weights and {len(biases)} biases"
        )
    check_images(hidden=hidden, inner=inner)
    c = hidden.shape[1]
    for layer, weight, bias in zip(LAYERS, weights, biases, strict=True):
        c_out = c if layer == "out" else 2 * c
        for name, tensor, shape in (
            (f"weights[{layer}]", weight, (c_out, 2 * c, 3, 3)),
            (f"biases[{layer}]", bias, (c_out,)),
        ):
            check_kind(name, tensor, "hidden", hidden)
            if tensor.shape != shape:
                raise ValueError(
                    f"{name} must be {list(shape)} for hidden of {c} channels; got {list(tensor.shape)}"
                )


def irm_update(
    hidden: Tensor,  # [N, C, H, W]  h_t, hidden state of the base network at frame t
    inner: Tensor,  # [N, C, H, W]  inner state of frame t-1
    weights: Sequence[Tensor],  # joint, res1a, res1b, res2a, res2b: [2C, 2C, 3, 3]; out: [C, 2C, 3, 3]
    biases: Sequence[Tensor],  # five of [2C], then [C]
    *,
    backend: str | None = None,
) -> Tensor:  # [N, C, H, W]  inner state of frame t
    """Advance the inner state by one frame with the inner-recurrence module (equation 3 of the paper).

    ``out(res2(res1(relu(joint([hidden, inner])))))``, where ``res(x) = x + convb(relu(conva(x)))``. All
    convolutions are 3x3, stride 1, zero padded, with bias.

    The reference computes half precision in float32 and rounds once at the end; a fused backend may round the
    output of each convolution. Under autocast all tensors are cast to its dtype first. The CPU kernel
    holds activations for the backward pass as far as :func:`rirn.ops.hold_activations` allows; the others recompute them
    and save only the inputs.

    Args:
        hidden: [N, C, H, W], float32, float64, float16 or bfloat16, contiguous or channels_last for speed.
        inner: like ``hidden``: same shape, dtype and device; zeros at the first frame.
        weights: six tensors in the order joint, res1a, res1b, res2a, res2b [2C, 2C, 3, 3], out [C, 2C, 3, 3].
        biases: six tensors in the same order, [2C] five times, then [C].
        backend: ``auto``, ``reference``, ``cpu``, ``cuda`` or ``triton``; None leaves the
            choice to :mod:`rirn.ops.backends`.

    Returns:
        [N, C, H, W], linear (no activation), in the dtype and, where it is dense, the memory format of
        ``hidden``.

    Raises:
        ValueError: shapes, dtypes, devices or the number of tensors do not fit.
        RirnError: a backend requested by name does not exist or cannot run here.

    Example:
        >>> import torch
        >>> from rirn.ops import irm_update
        >>> c = 2
        >>> weights = [torch.zeros(2 * c, 2 * c, 3, 3) for _ in range(5)] + [torch.zeros(c, 2 * c, 3, 3)]
        >>> biases = [torch.zeros(2 * c) for _ in range(5)] + [torch.full((c,), 0.5)]
        >>> state = torch.zeros(1, c, 4, 4)
        >>> irm_update(torch.ones(1, c, 4, 4), state, weights, biases).unique()  # only the last bias is left
        tensor([0.5000])
    """
    result: Tensor = call(OP, backend, hidden, inner, list(weights), list(biases))
    return result


def _example(n: int, c: int, h: int, w: int) -> list[Any]:
    outs = [2 * c] * 5 + [c]
    return [(n, c, h, w), (n, c, h, w), [(out, 2 * c, 3, 3) for out in outs], [(out,) for out in outs]]


def _library(hidden: Tensor, inner: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Computes in the given dtype, while the reference computes half precision in float32."""
    return conv3x3_chain_library(*_as_chain(hidden, inner, weights, biases))


def _as_chain(
    hidden: Tensor, inner: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[Any, ...]:
    """The arguments of :func:`rirn.ops.conv3x3_chain` that give the same result."""
    return [hidden, inner], weights, biases, SLOPES, SKIPS, False, False


def _left_to_library(backend: str, hidden: Tensor, *others: Any) -> str | None:
    return FASTER_IN_FLOAT64 if backend == "cpu" and hidden.dtype == torch.float64 else None


OP = register(
    Op(
        "irm_update",
        irm_update_ref,
        _rules,
        images=2,
        example=_example,
        like="hidden",
        as_chain=_as_chain,
        width=lambda hidden, *others: hidden.shape[1],
        library=_library,
        left_to_library=_left_to_library,
        left_in_words={
            "cpu": "float64",
            "cuda": "float32 with TF32 and wide layers, unless measured otherwise",
        },
        triton=("conv3x3_chain", _as_chain),
        channels=(20, 16),
    )
)
