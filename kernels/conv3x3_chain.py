"""A run of 3x3 convolutions in Triton, one launch per layer, see :mod:`rirn.kernels.conv3x3`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rirn.kernels import conv3x3
from rirn.kernels.aot import Variant
from rirn.kernels.conv3x3 import (
    Image,
    between,
    convolve,
    convolve_back,
    image_of,
    inputs_of,
    readable,
)
from rirn.kernels.conv3x3_weights import weight_gradient
from rirn.kernels.launch import format_of, written


def _layer_size(inputs: Sequence[Tensor], unshuffle: bool) -> tuple[int, int]:
    height, width = inputs[0].shape[2:]
    return (height // 2, width // 2) if unshuffle else (height, width)


def _readable(inputs: Sequence[Tensor], skips: Sequence[int], unshuffle: bool) -> list[Image]:
    """Return the inputs for the first layer, joined into one if the second layer adds them to its result."""
    if len(inputs) > 1 and len(skips) > 1 and skips[1]:
        inputs = [torch.cat(list(inputs), 1)]
    return inputs_of(inputs, unshuffle)


def _chain_forward(
    out: Image | None,
    inputs: Sequence[Image],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[bool],
    size: tuple[int, int],
) -> list[Sequence[Image]]:
    """Run a chain of layers and return what each layer read. Without ``out``, the last layer is left out: a
    backward pass needs no more."""
    reads: list[Sequence[Image]] = [inputs]
    for i, (weight, bias, slope, skip) in enumerate(zip(weights, biases, slopes, skips, strict=True)):
        is_last = i == len(weights) - 1
        if is_last and out is None:
            break
        target = out if is_last else between(inputs[0], weight.shape[0], *size)
        convolve(reads[i], weight, bias, target, size, slope, reads[i - 1][0] if skip else None)
        reads.append([target])
    return reads[: len(weights)]


def _chain_backward(
    grads_inputs: Sequence[Image | None],
    grads_weights: Sequence[Tensor | None],
    grads_biases: Sequence[Tensor | None],
    grad: Image,  # of the last layer's result in front of its activation, in [N, H, W, C] order
    inputs: Sequence[Image],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[bool],
    size: tuple[int, int],
) -> None:
    """Fill the gradients that are not None; images between the layers are recomputed."""
    reads = _chain_forward(None, inputs, weights, biases, slopes, skips, size)
    above: Image | None = None  # gradient of the layer above, which this layer's input may reach by a skip
    for i in reversed(range(len(weights))):
        if grads_weights[i] is not None or grads_biases[i] is not None:
            weight_gradient(reads[i], grad, size, grads_weights[i], grads_biases[i])
        skipped = above if i + 1 < len(weights) and skips[i + 1] else None
        if i > 0:
            below = between(grad, reads[i][0].channels, *size)
            convolve_back(
                grad, weights[i], 0, below, size, slopes[i - 1], skipped, _gate(reads[i], slopes[i - 1])
            )
            above, grad = grad, below
            continue
        first = 0
        for image, found in zip(inputs, grads_inputs, strict=True):
            if found is not None:
                convolve_back(grad, weights[0], first, found, size, 1.0, skipped)
            first += image.channels


def _gate(read: Sequence[Image], slope: float) -> Image | None:
    return None if slope == 1 else read[0]


def forward(
    out: Tensor,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[int],
    unshuffle: bool,
    shuffle: bool,
) -> None:
    """Fill ``out``. Arguments as in :func:`rirn.ops.conv3x3_chain`, already checked, of at least one element."""
    size = _layer_size(inputs, unshuffle)
    images = _readable(inputs, skips, unshuffle)
    weights = [readable(weight) for weight in weights]
    with written([out], format_of(out)) as (target,):
        _chain_forward(image_of(target, shuffle), images, weights, biases, slopes, skips, size)


def backward(
    grads: Sequence[Tensor | None],
    grad: Tensor,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[int],
    unshuffle: bool,
    shuffle: bool,
) -> None:
    """Fill the gradients of inputs, weights and biases that are not None. ``grad`` is that of the last layer's
    result in front of its activation."""
    n = len(inputs)
    size = _layer_size(inputs, unshuffle)
    images = _readable(inputs, skips, unshuffle)
    weights = [readable(weight) for weight in weights]
    if shuffle:
        grad = torch.nn.functional.pixel_unshuffle(grad, 2)
    grad_image = Image(grad.contiguous(memory_format=torch.channels_last), grad.shape[1])
    grads_inputs = list(grads[:n])
    is_joined = (
        len(images) < n
    )  # then the first layer's gradient is one tensor too, and its parts are copied out
    if is_joined and any(g is not None for g in grads_inputs):
        channels = sum(x.shape[1] for x in inputs)
        targets = [grad.new_empty((inputs[0].shape[0], channels, *inputs[0].shape[2:]))]
    else:
        targets = [] if is_joined else grads_inputs
    with written(targets, torch.channels_last) as dense:
        _chain_backward(
            [None if t is None else image_of(t, unshuffle) for t in dense] or [None],
            grads[n : n + len(weights)],
            grads[n + len(weights) :],
            grad_image,
            images,
            weights,
            biases,
            slopes,
            skips,
            size,
        )
    if is_joined and targets:
        parts = targets[0].split([x.shape[1] for x in inputs], 1)
        for found, part in zip(grads_inputs, parts, strict=True):
            if found is not None:
                found.copy_(part)


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time."""
    yield from conv3x3.variants()


def layers() -> Iterator[Variant]:
    """Yield what networks launch beyond that."""
    yield from conv3x3.layers()
