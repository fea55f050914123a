"""Encoders and decoders as runs of 3x3 convolutions, and 1x1 convolutions as matrix products.

A convolution of stride 2 reads, for each output pixel, the same pixels of the four phases of its input (even or odd row, even or
odd column) and their neighbours: on the phases as channels, ``pixel_unshuffle(x, 2)``, it is a convolution of stride 1 with at
most 3x3 taps. A transposed convolution of stride 2 is one that writes the phases of its output, and a 5x5 convolution goes from
phases to phases. All of them can thus run on :func:`rirn.ops.conv3x3_chain`, which does four times fewer multiplications than it
seems, and several in a row in one sweep without leaving the phases. Zero padding stays zero padding.

That holds on the CPU. A GPU kernel launches once per layer and does all the multiplications, and the weights have to be converted
to phases in separate launches: by count, a float32 step of IFI-RNN + RIRN at 1280x720 whose 3x3 layers run on our kernels
would take 76 launches instead of 42 and 1.16 times the operations. On a GPU all of this is left to torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rirn import ops
from rirn.nn.blocks import bias_of
from rirn.ops._call import is_autocast
from rirn.ops._transforms import within_transform
from rirn.ops.conv3x3_chain import runs_kernel

Convolution = nn.Conv2d | nn.ConvTranspose2d


class ConvSequential(nn.Sequential):
    """A sequence of modules, [N, C, H, W] -> [N, C', H', W'], whose convolutions run as 3x3 ones where our CPU kernel does.

    It has the same parameters and results as :class:`torch.nn.Sequential`. It merges 3x3 and 5x5 convolutions of stride 1 or 2
    and 3x3 and 4x4 transposed ones of stride 2, all zero padded so that sizes stay, halve or double, with the rectifiers
    after them. 1x1 convolutions run as :func:`conv1x1`; other modules are called as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        for part in _parts(self):
            x = conv1x1([x], part) if isinstance(part, nn.Conv2d) and _is_1x1(part) else part(x)
        return x

    def convolution(self, index: int) -> Convolution:
        """The module at ``index``, which is a convolution."""
        module = self[index]
        assert isinstance(module, Convolution)
        return module

    if TYPE_CHECKING:  # torch declares that calling a module returns Any

        def __call__(self, x: Tensor) -> Tensor: ...


def conv1x1(
    inputs: Sequence[Tensor],  # [N, C_k, H, W] each
    layer: nn.Conv2d,  # 1x1, reads as many channels as all inputs have
) -> Tensor:  # [N, out, H, W]
    """Compute ``layer(torch.cat(inputs, 1))``; where our CPU kernels run, as matrix products that need no concatenation.

    Torch's 1x1 convolutions reorder contiguous images first, which takes longer than the products: from 200 to 80 channels
    at 180x320, products took a third to a half of the time of concatenation and convolution (two runs on a busy machine).
    """
    if not _suits_products(inputs):
        joined: Tensor = layer(inputs[0] if len(inputs) == 1 else torch.cat(list(inputs), 1))
        return joined
    n, _, h, w = inputs[0].shape
    weights = torch.split(layer.weight[:, :, 0, 0], [x.shape[1] for x in inputs], 1)
    (first, *others), (image, *images) = weights, inputs
    out = torch.baddbmm(bias_of(layer)[:, None], first.expand(n, -1, -1), image.flatten(2))
    for weight, image in zip(others, images, strict=True):
        out.baddbmm_(weight.expand(n, -1, -1), image.flatten(2))
    return torch.unflatten(out, 2, (h, w))


def _suits_products(inputs: Sequence[Tensor]) -> bool:
    """Only in single precision: half would be rounded after each product. In-place sums do not work under vmap over only some
    of the images."""
    if within_transform():
        return False
    single = all(x.dtype == torch.float32 and x.is_contiguous() for x in inputs)
    on_cpu = inputs[0].device.type == "cpu"
    return on_cpu and single and not is_autocast(inputs[0].device.type) and runs_kernel(inputs, [])


def _is_1x1(layer: nn.Conv2d) -> bool:
    simple = layer.kernel_size == layer.stride == layer.dilation == (1, 1) and layer.padding == (0, 0)
    return simple and layer.groups == 1 and layer.bias is not None


@dataclass
class _Run:
    """Convolutions that make one chain, with the slopes of their activations."""

    in_phases: bool
    """The first convolution reads phases."""
    modules: list[nn.Module] = field(default_factory=list)
    convolutions: list[Convolution] = field(default_factory=list)
    slopes: list[float] = field(default_factory=list)

    @property
    def out_phases(self) -> bool:
        return _writes_phases(self.convolutions[-1])

    def __call__(self, x: Tensor) -> Tensor:
        if not self._is_faster(x):
            for module in self.modules:
                x = module(x)
            return x
        weights, biases = zip(*(_as_3x3(c) for c in self.convolutions), strict=True)
        skips = [False] * len(weights)
        return ops.conv3x3_chain(
            [x], weights, biases, self.slopes, skips, unshuffle=self.in_phases, shuffle=self.out_phases
        )

    def _is_faster(self, x: Tensor) -> bool:
        h, w = x.shape[2:]
        if x.device.type != "cpu" or (self.in_phases and (h % 2 or w % 2)):
            return False
        parameters = [p for c in self.convolutions for p in c.parameters()]
        return runs_kernel([x], parameters, in_phases=self.in_phases)


def _parts(modules: nn.Sequential) -> Iterator[nn.Module | _Run]:
    """The modules, with those that can run together merged into one."""
    run: _Run | None = None
    for module in modules:
        slope = _slope(module)
        if slope is not None and run is not None and run.slopes[-1] == 1:
            run.modules.append(module)
            run.slopes[-1] = slope
            continue
        convolution = module if _suits(module) else None
        if run is not None and (convolution is None or _reads_phases(convolution) != run.out_phases):
            yield run
            run = None
        if convolution is None:
            yield module
            continue
        run = run or _Run(_reads_phases(convolution))
        run.modules.append(convolution)
        run.convolutions.append(convolution)
        run.slopes.append(1.0)
    if run is not None:
        yield run


def _slope(module: nn.Module) -> float | None:
    """Slope below zero of a rectifier, None for other modules."""
    if isinstance(module, nn.ReLU):
        return 0.0
    return module.negative_slope if isinstance(module, nn.LeakyReLU) else None


def _suits(module: nn.Module) -> TypeGuard[Convolution]:
    if not isinstance(module, Convolution) or module.groups != 1 or module.bias is None:
        return False
    k, stride, pad = module.kernel_size[0], module.stride[0], module.padding[0]
    is_square = (module.kernel_size, module.stride, module.padding) == ((k, k), (stride, stride), (pad, pad))
    if not is_square or module.dilation != (1, 1) or module.padding_mode != "zeros":
        return False
    if isinstance(module, nn.ConvTranspose2d):
        return stride == 2 and pad == 1 and (k, module.output_padding) in ((3, (1, 1)), (4, (0, 0)))
    return k in (3, 5) and stride in (1, 2) and pad == k // 2


def _reads_phases(module: Convolution) -> bool:
    return isinstance(module, nn.Conv2d) and (module.stride[0] == 2 or module.kernel_size[0] == 5)


def _writes_phases(module: Convolution) -> bool:
    return isinstance(module, nn.ConvTranspose2d) or (module.stride[0] == 1 and module.kernel_size[0] == 5)


def _as_3x3(module: Convolution) -> tuple[Tensor, Tensor]:
    """Weight [out, in, 3, 3] and bias [out] of the 3x3 convolution that does the same on phases."""
    weight, bias = module.weight, bias_of(module)
    if isinstance(module, nn.ConvTranspose2d):
        weight = _transposed(weight)
    elif module.stride[0] == 2:
        weight = _between_phases(weight, 0, 0)
    elif module.kernel_size[0] == 5:
        phases = [_between_phases(weight, a, b) for a in (0, 1) for b in (0, 1)]
        weight = torch.stack(phases, 1).flatten(0, 1)
    return weight, bias.repeat_interleave(4) if _writes_phases(module) else bias


def _between_phases(weight: Tensor, row: int, column: int) -> Tensor:
    """[out, in, k, k] -> [out, 4 in, 3, 3], which reads phases and makes the output phase (row, column).

    Tap t of a k x k filter reads ``t - k // 2`` from its output pixel. For the phase ``a`` of the output that is pixel
    ``r - 1`` of phase p with ``t = 2 r + p - (2 - k // 2) - a``: the filter moved into one of six taps, whose own phases follow.
    """
    k = weight.shape[-1]
    above, left = 2 - k // 2 + row, 2 - k // 2 + column
    return F.pixel_unshuffle(F.pad(weight, (left, 6 - k - left, above, 6 - k - above)), 2)


def _transposed(weight: Tensor) -> Tensor:
    """[in, out, k, k] of stride 2 and padding 1 -> [4 out, in, 3, 3], which makes the phases.

    Input pixel i reaches output pixel ``2 i + t - 1`` with tap t: pixel ``r - 1`` from its own reaches phase a with
    ``t + 1 = 2 (2 - r) + a``. Written without a table of taps, whose copy to a GPU no CUDA graph could capture.
    """
    k = weight.shape[-1]
    weight = F.pad(weight, (1, 5 - k, 1, 5 - k))
    weight = weight.view(*weight.shape[:2], 3, 2, 3, 2)  # [in, out, 2 - r, a, 2 - s, b]
    return weight.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
