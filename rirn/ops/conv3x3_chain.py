"""A run of 3x3 convolutions, with their activations and skip connections, as one op."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rirn.ops._call import check_images, check_kind
from rirn.ops._library import library
from rirn.ops._register import call, register
from rirn.ops.backends import choose, is_auto
from rirn.ops.conv_epilogue import conv_epilogue, runs_conv_epilogue
from rirn.ops.spec import Op
from rirn.ops.tuning import tuned

MOST_TENSORS = 62
"""Limited by the output mask, a single integer that says which gradients are wanted."""

NARROWEST = 32
NARROWEST_WITH_GRADIENT = 64
"""Fewest columns of a batch, its images side by side, for which ``auto`` takes the CPU kernel, without and with a
gradient: a register holds 16 tiles of 4 columns, of one image or of several. Residual blocks of 48 and 80 channels
ran 1.03 and 1.12 times as fast as torch's convolutions on one image of 32x32, 0.83 and 0.83 times with the
backward pass; on two images 1.27 and 1.51 times, with the backward pass 1.11 and 1.13 times (one AVX-512 core,
processor time, best of 9)."""

MOST_INPUTS_ON_CUDA = 8
"""Images that the CUDA kernel reads as if concatenated."""

FASTER_IN_FLOAT64 = "torch's convolutions are faster in float64"

LEFT_TO_LIBRARY = {
    "cpu": f"float64 and batches of less than {NARROWEST} columns ({NARROWEST_WITH_GRADIENT} with a gradient)",
    "cuda": f"float32 and wide layers unless measured otherwise, more than {MOST_INPUTS_ON_CUDA} inputs and convolutions "
    "taken apart into phases",
}
"""What ``auto`` leaves to torch's convolutions although there is a kernel, by type of device."""


def conv3x3_chain_ref(
    inputs: Sequence[Tensor],  # [N, C_k, H, W], read as if concatenated along the channels
    weights: Sequence[Tensor],  # [out, in, 3, 3]
    biases: Sequence[Tensor],  # [out]
    slopes: Sequence[float],  # of the activations below zero: 0 is ReLU, 1 none
    skips: Sequence[int],  # 1 where a layer adds the input of the layer before it
    unshuffle: bool = False,  # the layers see pixel_unshuffle(input, 2) of each input
    shuffle: bool = False,  # the result is pixel_shuffle(x, 2) of the last layer's x
) -> Tensor:  # [N, out of the last layer, H, W]
    """A run of 3x3 convolutions: ``x_l = act_l(conv_l(x_{l-1}) + bias_l [+ x_{l-2}])``.

    Unlike the other references it computes in the given dtype: whole networks run on it where none of our kernels does, and
    there torch's half-precision convolutions are wanted.
    """
    return _chain(_layer, inputs, weights, biases, slopes, skips, unshuffle, shuffle)


def conv3x3_chain_library(*args: Any) -> Tensor:
    """The same, for calls that ``auto`` leaves to torch: on CUDA with the epilogue of each convolution in one kernel, if
    there is nothing to differentiate."""
    inputs, weights, biases, *_ = args
    fused = runs_conv_epilogue([*inputs, *weights, *biases])
    return _chain(_layer_with_epilogue if fused else _layer, *args)


def _chain(
    layer: Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[int],
    unshuffle: bool,
    shuffle: bool,
) -> Tensor:
    if unshuffle:
        inputs = [_unshuffled(x) for x in inputs]
    before = x = inputs[0] if len(inputs) == 1 else torch.cat(list(inputs), 1)
    for weight, bias, slope, skip in zip(weights, biases, slopes, skips, strict=True):
        before, x = x, layer(x, weight, bias, before if skip else None, slope)
    return _shuffled(x) if shuffle else x


def _layer(x: Tensor, weight: Tensor, bias: Tensor, skip: Tensor | None, slope: float) -> Tensor:
    y = F.conv2d(x, weight, bias, padding=1)
    y = y if skip is None else skip + y
    return y if slope == 1 else torch.relu(y) if slope == 0 else F.leaky_relu(y, slope)


def _layer_with_epilogue(
    x: Tensor, weight: Tensor, bias: Tensor, skip: Tensor | None, slope: float
) -> Tensor:
    return conv_epilogue(F.conv2d(x, weight, padding=1), bias, skip, slope)


# torch's pixel_unshuffle, and so the derivative of pixel_shuffle, returns an empty batch unchanged.
def _unshuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return F.pixel_unshuffle(x, 2) if x.numel() else x.reshape(n, 4 * c, h // 2, w // 2)


def _shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return F.pixel_shuffle(x, 2) if x.numel() else x.reshape(n, c // 4, 2 * h, 2 * w)


def _rules(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[int],
    unshuffle: bool,
    shuffle: bool,
) -> None:
    n, counts = len(inputs), [len(part) for part in (weights, biases, slopes, skips)]
    if n == 0 or min(counts) == 0 or len(set(counts)) > 1 or n + 2 * counts[0] > MOST_TENSORS:
        raise ValueError(
            "conv3x3_chain takes at least one input and as many weights as biases, slopes and skips, no more than "
            f"{MOST_TENSORS} tensors in all; got {n} inputs and {', '.join(map(str, counts))} of these"
        )
    first = inputs[0]
    for k, image in enumerate(inputs):
        check_images(**{f"inputs[{k}]": image})
        check_kind(f"inputs[{k}]", image, "inputs[0]", first)
        if (image.shape[0], *image.shape[2:]) != (first.shape[0], *first.shape[2:]):
            raise ValueError(
                f"inputs[{k}] must have the N, H, W of inputs[0] {list(first.shape)}; got {list(image.shape)}"
            )
    if not all(0 <= slope < math.inf for slope in slopes):
        raise ValueError(f"slopes must be finite and not negative; got {list(map(float, slopes))}")
    if unshuffle and (first.shape[2] % 2 or first.shape[3] % 2):
        raise ValueError(f"inputs to unshuffle must have even H and W; got {list(first.shape)}")
    channels = [sum(image.shape[1] for image in inputs) * (4 if unshuffle else 1)]
    if channels[0] == 0:  # torch's convolutions do not allow an empty sum
        raise ValueError(f"inputs must have at least 1 channel together; got {list(first.shape)}")
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        check_kind(f"weights[{i}]", weight, "inputs[0]", first)
        check_kind(f"biases[{i}]", bias, "inputs[0]", first)
        if weight.dim() != 4 or weight.shape[1:] != (channels[-1], 3, 3) or weight.shape[0] == 0:
            raise ValueError(
                f"weights[{i}] must be [out, {channels[-1]}, 3, 3] for the {channels[-1]} channels it reads, out at "
                f"least 1; got {list(weight.shape)}"
            )
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"biases[{i}] must be [{weight.shape[0]}] for weights[{i}]; got {list(bias.shape)}"
            )
        channels.append(weight.shape[0])
    if shuffle and channels[-1] % 4:
        raise ValueError(f"the last layer must have a multiple of 4 channels to shuffle; got {channels[-1]}")
    for i, skip in enumerate(skips):
        if skip and (i == 0 or channels[i - 1] != channels[i + 1]):
            raise ValueError(
                f"skips[{i}] needs a layer before it that reads the {channels[i + 1]} channels of this one's result; "
                f"got {channels[i - 1] if i else 'no'} channels"
            )


def conv3x3_chain(
    inputs: Sequence[Tensor],  # [N, C_k, H, W] each
    weights: Sequence[Tensor],  # [out, in, 3, 3] each
    biases: Sequence[Tensor],  # [out] each
    slopes: Sequence[float],
    skips: Sequence[bool],
    *,
    unshuffle: bool = False,
    shuffle: bool = False,
    backend: str | None = None,
) -> Tensor:  # [N, out of the last layer, H, W]
    """Run images through 3x3 convolutions (stride 1, zero padded) with activations and skip connections.

    Layer l yields ``x_l = act_l(conv_l(x_{l-1}) + bias_l [+ x_{l-2}])`` with ``act_l(v) = v if v >= 0 else
    slopes[l] * v``. For the backward pass the CPU kernel holds the images between the layers as far as
    :func:`rirn.ops.hold_activations` allows; otherwise, and on other backends, they are recomputed.

    The reference is torch's convolutions in the given dtype, so half precision rounds after every
    layer, as in the CUDA kernels; the CPU kernel computes in float32 and rounds once. ``auto`` leaves to the
    reference what is faster there (:data:`LEFT_TO_LIBRARY`), and on CPUs without AVX2 everything.

    Args:
        inputs: one or more [N, C_k, H, W], float32, float64, float16 or bfloat16, any strides, of one dtype and read as if
            concatenated along the channels.
        weights: [out, in, 3, 3] of each layer.
        biases: [out] of each layer.
        slopes: slopes of the activations below zero, finite and not negative: 0 is ReLU, 1 none.
        skips: whether a layer adds the input of the layer before it, in front of its activation.
        unshuffle: the layers see ``pixel_unshuffle(input, 2)`` of each input, [N, 4 C_k, H/2, W/2]; H and W must be even.
        shuffle: the result is ``pixel_shuffle(x, 2)`` of the last layer's x, [N, out/4, 2 H, 2 W]. With both, stride-2,
            transposed and 5x5 convolutions can be written as 3x3 ones, see :mod:`rirn.nn.convolutions`.
        backend: one by name, ``cuda`` for at most 8 inputs; None leaves the choice to :mod:`rirn.ops.backends`.

    Returns:
        [N, out, H, W] (other sizes with ``unshuffle`` and ``shuffle``), channels_last if the first input is.

    Raises:
        ValueError: shapes, dtypes, devices or numbers of tensors do not fit.
        RirnError: a backend requested by name does not exist or cannot run here.

    Example:
        >>> import torch
        >>> from rirn.ops import conv3x3_chain
        >>> x = torch.ones(1, 2, 4, 4)
        >>> zeros = torch.zeros(2, 2, 3, 3)
        >>> # a residual block
        >>> conv3x3_chain([x], [zeros, zeros], [zeros[0, 0, 0, :2], torch.ones(2)], [0, 1], [False, True]).unique()
        tensor([2.])
    """
    layers = list(weights), list(biases), [float(s) for s in slopes], [int(s) for s in skips]
    result: Tensor = call(OP, backend, list(inputs), *layers, unshuffle, shuffle)
    return result


def runs_kernel(
    images: Sequence[Tensor],
    parameters: Sequence[Tensor],
    *,
    in_phases: bool = False,
    backend: str | None = None,
) -> bool:
    """Whether :func:`conv3x3_chain` would run one of our kernels. If not, it is torch's convolutions, which the caller
    may prefer in another form.

    Args:
        images: the inputs, [N, C_k, H, W] each.
        parameters: weights and biases of the layers.
        in_phases: whether the layers see the phases of the images (``unshuffle``).
        backend: as in :func:`conv3x3_chain`.
    """
    name, first = choose(OP.name, images[0].device, backend), images[0]
    if name == "reference" or not is_auto(backend):
        return name != "reference"
    if _why_library(name, images, parameters, in_phases) is not None:
        return False
    return first.device.type != "cuda" or tuned(OP.name, first, _widest(parameters), name) != "library"


def _widest(parameters: Sequence[Tensor]) -> int:
    return max((max(p.shape[:2]) for p in parameters if p.dim() == 4), default=0)


def _why_library(
    backend: str, images: Sequence[Tensor], parameters: Sequence[Tensor], in_phases: bool
) -> str | None:
    """Why torch's convolutions are faster than the kernel of a backend, or None; no sentence has numbers that depend on
    the call, as torch.compile traces them."""
    first = images[0]
    if backend != "cpu":
        if backend == "cuda" and len(images) > MOST_INPUTS_ON_CUDA:
            return f"it reads at most {MOST_INPUTS_ON_CUDA} inputs"
        if in_phases:
            return "torch's convolutions of stride 2 are faster than those taken apart into phases"
        return None
    if first.dtype == torch.float64:
        return FASTER_IN_FLOAT64
    with_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (*images, *parameters))
    columns = first.shape[0] * (first.shape[3] // 2 if in_phases else first.shape[3])
    if columns < (NARROWEST_WITH_GRADIENT if with_gradient else NARROWEST):
        return f"torch's convolutions are faster on {LEFT_TO_LIBRARY['cpu'].partition(' and ')[2]}"
    return "this processor has neither AVX2 nor AVX-512" if _is_generic() else None


def _left_to_library(
    backend: str,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[int],
    unshuffle: bool,
    shuffle: bool,
) -> str | None:
    return _why_library(backend, inputs, [*weights, *biases], unshuffle)


def _is_generic() -> bool:
    return library().isa == "generic"


# A constant for torch.compile, like the choice of a backend: see rirn.ops.backends.
_is_generic._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _fake(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[int],
    unshuffle: bool,
    shuffle: bool,
) -> Tensor:
    first, channels = inputs[0], weights[-1].shape[0]
    n, _, h, w = first.shape
    if unshuffle:
        h, w = h // 2, w // 2
    if shuffle:
        channels, h, w = channels // 4, 2 * h, 2 * w
    if first.shape[1] > 1 and first.stride(1) == 1:
        return first.new_empty(n, h, w, channels).permute(0, 3, 1, 2)
    return first.new_empty(n, channels, h, w)


def _last_slope(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[int],
    unshuffle: bool,
    shuffle: bool,
) -> float:
    return slopes[-1]


def _example(n: int, c: int, h: int, w: int) -> list[Any]:
    """A residual block."""
    return [[(n, c, h, w)], [(c, c, 3, 3)] * 2, [(c,)] * 2, [0.0, 1.0], [0, 1], False, False]


OP = register(
    Op(
        "conv3x3_chain",
        conv3x3_chain_ref,
        _rules,
        images=1,
        example=_example,
        fake=_fake,
        last_slope=_last_slope,
        as_chain=lambda *args: args,
        left_to_library=_left_to_library,
        left_in_words=LEFT_TO_LIBRARY,
        width=lambda inputs, weights, *others: _widest(weights),
        library=conv3x3_chain_library,
        channels=(80,),
    )
)
