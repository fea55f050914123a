"""Initial weights that keep the size of a signal from layer to layer."""

from __future__ import annotations

import math

import torch
from torch import nn

from rirn.nn.blocks import ResBlock
from rirn.nn.convolutions import Convolution


@torch.no_grad()
def preserve_variance_(module: nn.Module) -> None:
    """Redraw the weights of all convolutions so that input and output of each have about the same variance.

    PyTorch's default shrinks the signal by 1.7 in each layer without an activation, and the encoders and heads here
    are chains of such layers: after six of them 5 % is left, and a short training run is spent on growing it back.
    Biases are not changed.
    """
    for layer in module.modules():
        if isinstance(layer, Convolution):
            taps = layer.weight[0, 0].numel()
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.in_channels / layer.groups * taps
            else:
                # A transposed convolution of stride s reaches each output pixel with 1 / s^2 of its taps.
                fan_in = layer.in_channels * taps / math.prod(layer.stride)
            nn.init.normal_(layer.weight, std=1 / math.sqrt(fan_in))
    for block in module.modules():
        if isinstance(block, ResBlock):
            block.conv1.weight *= math.sqrt(2)  # the ReLU behind it drops half of the power
            block.conv2.weight *= 0.5  # a chain of blocks must not grow: each sum adds a quarter


CONTRAST_GAIN = 5.0
"""Factor by which :func:`remove_mean_` multiplies filters: about the contrast that it takes away."""


@torch.no_grad()
def remove_mean_(layer: Convolution) -> None:
    """Make each freshly drawn filter of a first layer blind to the brightness of its input, and scale it up for what is left.

    Almost all variance of an image is in its slow changes, which blur does not affect. After filters with a mean they swamp
    the rest in every layer, and the first steps of a training run go astray along what changes brightness;
    notes/short-trainings.md has figures.
    """
    layer.weight -= layer.weight.mean((2, 3), keepdim=True)
    layer.weight *= CONTRAST_GAIN
