"""What the GPU kernels of each op launch, read, write and compute: one function per op and pass, with the arguments of the op.

A tensor counts once for each launch that touches it, because a GPU's caches hold little from one launch to the next. What a
kernel asks for again (the rims of tiles, a map for every channel) is in :attr:`Access.requested`. Sizes of tiles are those of
``csrc/cuda``. Weights that were brought in order for the tensor cores count as the weights do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rirn.bench.launches import Access, Formula, Launch, access
from rirn.ops._call import is_wanted
from rirn.ops.backends import INFERENCE_OPS

Tile = tuple[int, int]

CONVOLUTION_TILE: Tile = (8, 32)  # csrc/cuda/conv3x3_mma.cuh and conv3x3_ffma.cuh
IRM_TILES: Mapping[int, Tile] = {
    16: (16, 32),
    20: (16, 32),
    32: (16, 24),
}  # csrc/cuda/irm_update.cuh, by channels
GRADIENT_TILE: Tile = (8, 16)  # csrc/cuda/conv3x3_weight_gradient.cuh
GRADIENT_CHANNELS = 32  # inputs, and outputs, of a block that sums a gradient of weights
GRADIENT_BLOCKS = 256
PACKED_AT_ONCE = 16  # layers whose weights one launch brings in order
IRM_SLOPES = (0.0, 0.0, 1.0, 0.0, 1.0, 1.0)
IRM_SKIPS = (False, False, True, False, True, False)
PACK_BYTES = 16  # that a thread of a pointwise kernel reads of every tensor
THREADS = 256  # of a block


class Style(NamedTuple):
    """How a form of the kernels runs layers."""

    packs: bool
    """In half precision a launch of its own brings weights in order, and images between layers have groups of 8 channels."""
    split: int | None
    """Pixels of an image whose share of a gradient of weights is one part; None where blocks take tiles by turns."""
    per_input: bool
    """In the backward pass the first layer takes a launch for each of its inputs."""


IN_CUDA = Style(packs=True, split=None, per_input=False)
IN_TRITON = Style(packs=False, split=4096, per_input=True)  # kernels/conv3x3.py


# ---- ops from element to element ----


def atb_blend(
    f_prev: Tensor, f_cur: Tensor, logit_prev: Tensor, logit_cur: Tensor, max_weight: float
) -> list[Launch]:
    """One launch: four tensors in, one out; a map with one channel is asked for once per channel."""
    inputs = {"f_prev": f_prev, "f_cur": f_cur, "logit_prev": logit_prev, "logit_cur": logit_cur}
    return [_pointwise("atb_blend", inputs, {"out": f_cur})]


def atb_blend_backward(
    grad: Tensor,
    f_prev: Tensor,
    f_cur: Tensor,
    logit_prev: Tensor,
    logit_cur: Tensor,
    max_weight: float,
    needs: int,
) -> list[Launch]:
    """One launch: with all gradients and full maps five tensors in, four out. Maps of one channel are summed inside."""
    inputs = {"f_prev": f_prev, "f_cur": f_cur, "logit_prev": logit_prev, "logit_cur": logit_cur}
    reads = (("logit_prev",), ("logit_cur",), ("f_prev", "logit_prev"), ("f_cur", "logit_cur"))
    return _pointwise_backward("atb_blend", {"grad": grad}, inputs, reads, needs)


def dtb_blend(f_prev: Tensor, f_cur: Tensor, logit: Tensor, beta: Tensor) -> list[Launch]:
    """One launch: three tensors and a number in, one tensor out."""
    inputs = {"f_prev": f_prev, "f_cur": f_cur, "logit": logit, "beta": beta}
    return [_pointwise("dtb_blend", inputs, {"out": f_cur})]


def dtb_blend_backward(
    grad: Tensor, f_prev: Tensor, f_cur: Tensor, logit: Tensor, beta: Tensor, needs: int
) -> list[Launch]:
    """One launch and, for the gradient of beta, a second that adds up one number (float64) of each block of the first."""
    inputs = {"f_prev": f_prev, "f_cur": f_cur, "logit": logit, "beta": beta}
    everything = tuple(inputs)
    reads = (("logit", "beta"), ("logit", "beta"), everything, everything)
    launches = _pointwise_backward("dtb_blend", {"grad": grad}, inputs, reads, needs)
    if not is_wanted(needs, 3):
        return launches
    blocks = math.ceil(f_cur.numel() * f_cur.element_size() / PACK_BYTES / THREADS)
    partial = access("partial", beta.new_empty(blocks, dtype=torch.float64))
    (first,) = launches
    first = Launch(first.kernel, first.reads, (*first.writes[:-1], partial))
    return [first, Launch("sum_totals", (partial,), (access("grad_beta", beta),))]


def gru_reset(logit_r: Tensor, hidden: Tensor) -> list[Launch]:
    """One launch: two tensors in, one out."""
    return [_pointwise("gru_reset", {"logit_r": logit_r, "hidden": hidden}, {"out": hidden})]


def gru_reset_backward(grad: Tensor, logit_r: Tensor, hidden: Tensor, needs: int) -> list[Launch]:
    """One launch: three tensors in, two out."""
    inputs = {"logit_r": logit_r, "hidden": hidden}
    return _pointwise_backward(
        "gru_reset", {"grad": grad}, inputs, (("logit_r", "hidden"), ("logit_r",)), needs
    )


def gru_update(hidden: Tensor, logit_z: Tensor, logit_n: Tensor) -> list[Launch]:
    """One launch: three tensors in, one out."""
    inputs = {"hidden": hidden, "logit_z": logit_z, "logit_n": logit_n}
    return [_pointwise("gru_update", inputs, {"out": hidden})]


def gru_update_backward(
    grad: Tensor, hidden: Tensor, logit_z: Tensor, logit_n: Tensor, needs: int
) -> list[Launch]:
    """One launch: four tensors in, three out."""
    inputs = {"hidden": hidden, "logit_z": logit_z, "logit_n": logit_n}
    reads = (("logit_z",), ("hidden", "logit_z", "logit_n"), ("logit_z", "logit_n"))
    return _pointwise_backward("gru_update", {"grad": grad}, inputs, reads, needs)


def lstm_update(gates: Tensor, cell: Tensor) -> list[Launch]:
    """One launch: four gates and the cell in, two states out."""
    return [_pointwise("lstm_update", {"gates": gates, "cell": cell}, {"hidden": cell, "new_cell": cell})]


def lstm_update_backward(
    grad_hidden: Tensor, grad_cell: Tensor, gates: Tensor, cell: Tensor, needs: int
) -> list[Launch]:
    """One launch: two gradients, four gates and the cell in, the gradients of gates and cell out."""
    grads = {"grad_hidden": grad_hidden, "grad_cell": grad_cell}
    inputs = {"gates": gates, "cell": cell}
    return _pointwise_backward("lstm_update", grads, inputs, (("gates", "cell"),) * 2, needs)


def fac(features: Tensor, kernels: Tensor) -> list[Launch]:
    """One launch: every value of the filters once, the features 25 times over, mostly from cache."""
    reads = (access("features", features, 25), access("kernels", kernels))
    return [Launch("fac", reads, (access("out", features),))]


def fac_backward(
    grad: Tensor, features: Tensor, kernels: Tensor, needs: int, *, together: bool = True
) -> list[Launch]:
    """One launch for both gradients, or (not ``together``) one for each: that of the features reads the filters and the gradient
    from above 25 times over, that of the filters the features."""
    launches = []
    if is_wanted(needs, 0):
        reads = (access("grad", grad, 25), access("kernels", kernels))
        launches.append(Launch("fac_backward", reads, (access("grad_features", features),)))
    if is_wanted(needs, 1):
        reads = (access("grad", grad), access("features", features, 25))
        launches.append(Launch("fac_backward", reads, (access("grad_kernels", kernels),)))
    if together and len(launches) == 2:
        first, second = launches
        launches = [Launch("fac_backward", (*first.reads, second.reads[1]), (*first.writes, *second.writes))]
    return launches


def _pointwise(kernel: str, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Launch:
    channels = max(t.shape[1] for t in inputs.values() if t.dim() == 4)
    reads = [access(k, t, channels if t.dim() == 4 and t.shape[1] == 1 else 1) for k, t in inputs.items()]
    return Launch(kernel, tuple(reads), tuple(access(k, t) for k, t in outputs.items()))


def _pointwise_backward(
    op: str,
    grads: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    reads: Sequence[tuple[str, ...]],
    needs: int,
) -> list[Launch]:
    """One launch that reads the gradients from above and, of the inputs, what ``reads`` names for each that is wanted."""
    wanted = [name for i, name in enumerate(inputs) if is_wanted(needs, i)]
    read = {name for i, names in enumerate(reads) if is_wanted(needs, i) for name in names}
    every = {**grads, **{name: t for name, t in inputs.items() if name in read}}
    return [_pointwise(f"{op}_backward", every, {f"grad_{name}": inputs[name] for name in wanted})]


# ---- 3x3 convolutions ----


@dataclass(frozen=True)
class Chain:
    """Layers of 3x3 convolutions over images that are stored between two launches."""

    style: Style
    images: int
    height: int
    width: int
    dtype: torch.dtype
    inputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    slopes: tuple[float, ...]
    skips: tuple[bool, ...]

    @property
    def packs(self) -> bool:
        return self.style.packs and self.dtype.itemsize == 2

    def channels(self, i: int) -> int:
        """Channels of the result of layer i; of the inputs for -1."""
        return self.weights[0].shape[1] if i < 0 else self.weights[i].shape[0]

    def flops(self, i: int, pixels: int | None = None) -> int:
        """Operations of layer i, or of the gradient of its input or of its weight, on so many pixels."""
        pixels = self.images * self.height * self.width if pixels is None else pixels
        return 2 * self.weights[i].numel() * pixels

    def image(self, name: str, i: int, tile: Tile | None = None, rim: int = 1, times: int = 1) -> Access:
        """The result of layer i, once, or asked for in tiles with a rim around them; in the kernels' own memory if another
        layer reads it, where tensor cores want channels in groups of 8."""
        channels = self.channels(i)
        if self.packs and 0 <= i < len(self.weights) - 1:
            channels = 8 * math.ceil(channels / 8)
        pixel = self.images * channels * self.dtype.itemsize
        whole = pixel * self.height * self.width
        return Access(name, whole, times * pixel * self.covered(tile, rim) if tile else whole)

    def covered(self, tile: Tile, rim: int) -> int:
        """Pixels of an image that all its tiles cover with a rim around each; what lies outside of the image is not there."""
        return covered(self.height, tile[0], rim) * covered(self.width, tile[1], rim)

    def parameters(self, i: int) -> tuple[Access, ...]:
        return access(f"weight{i}", self.weights[i]), access(f"bias{i}", self.biases[i])


def covered(length: int, tile: int, rim: int) -> int:
    """Sum of the lengths that tiles cover along one side, each with a rim on both ends as far as the image goes.

    Example:
        >>> from rirn.bench.kernel_costs import covered
        >>> covered(10, 4, 1)  # 0..4, 3..8, 7..9
        14
    """
    return sum(min(length, start + tile + rim) - max(0, start - rim) for start in range(0, length, tile))


def _chain(
    style: Style,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[bool],
    unshuffle: bool = False,
) -> Chain:
    n, _, h, w = inputs[0].shape
    h, w = (h // 2, w // 2) if unshuffle else (h, w)
    parts = (tuple(part) for part in (inputs, weights, biases, slopes, skips))
    return Chain(style, n, h, w, inputs[0].dtype, *parts)


def conv3x3_chain(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[bool],
    unshuffle: bool,
    shuffle: bool,
    *,
    style: Style = IN_CUDA,
) -> list[Launch]:
    """One launch per layer, with bias, skip connection and activation in it: reads the images before, writes the one after. In
    half precision on CUDA one more for every 16 layers brings the weights in order."""
    chain = _chain(style, inputs, weights, biases, slopes, skips, unshuffle)
    return [*_packing(chain, len(weights)), *_layers(chain, len(weights))]


def conv3x3_chain_backward(
    grad: Tensor,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[bool],
    unshuffle: bool,
    shuffle: bool,
    needs: int,
    *,
    style: Style = IN_CUDA,
) -> list[Launch]:
    """All layers but the last anew, their results stored; then for each layer, from the last, two launches for the gradients of
    weight and bias (sums of parts of the image, then the sum of the parts) and one for that of its input."""
    chain = _chain(style, inputs, weights, biases, slopes, skips, unshuffle)
    n = len(weights)
    wanted = [k for k in range(len(inputs)) if is_wanted(needs, k)]
    sums = [any(is_wanted(needs, len(inputs) + part * n + i) for part in (0, 1)) for i in range(n)]
    lowest = 0 if wanted else next((i for i in range(n) if sums[i]), n)
    if lowest == n:
        return []
    launches = [*_packing(chain, 2 * n - 1 if wanted else 2 * n - 2), *_layers(chain, n - 1)]
    for i in reversed(range(lowest, n)):
        if sums[i]:
            launches += _weight_gradient(chain, i)
        if i > lowest:
            launches.append(_input_gradient(chain, i, [chain.image(f"grad{i - 1}", i - 1)]))
    results = [access(f"grad_input{k}", inputs[k]) for k in wanted]
    groups = [[result] for result in results] if style.per_input else [results]
    return launches + [_input_gradient(chain, 0, group) for group in groups if group]


def irm_update(
    hidden: Tensor,
    inner: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    style: Style = IN_CUDA,
) -> list[Launch]:
    """In half precision with a tuned number of channels three launches: one brings the weights in order, one makes x1 of the
    inputs and one the result of x1, three layers each. The two layers before the last of each are made with rims of 2 and 1
    pixels around the tile, which is where the operations above the layers' own come from. All else goes layer by layer."""
    chain = _chain(style, (hidden, inner), weights, biases, IRM_SLOPES, IRM_SKIPS)
    tile = IRM_TILES.get(hidden.shape[1]) if chain.packs else None
    if tile is None:
        return [*_packing(chain, len(weights)), *_layers(chain, len(weights))]
    halves = []
    for first, name in ((0, "front"), (3, "back")):
        layers = range(first, first + 3)
        flops = sum(chain.flops(i, chain.images * chain.covered(tile, 2 - i + first)) for i in layers)
        reads = (chain.image(f"x{first - 1}", first - 1, tile, rim=3), *_parameters(chain, layers))
        halves.append(Launch(f"irm_{name}", reads, (chain.image(f"x{first + 2}", first + 2),), flops))
    return [*_packing(chain, len(weights)), *halves]


def irm_update_backward(
    grad: Tensor,
    hidden: Tensor,
    inner: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    needs: int,
    *,
    style: Style = IN_CUDA,
) -> list[Launch]:
    """As the chain of its six layers."""
    parts = ((hidden, inner), weights, biases, IRM_SLOPES, IRM_SKIPS, False, False, needs)
    return conv3x3_chain_backward(grad, *parts, style=style)


def atb_update(
    f_cur: Tensor,
    f_prev: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slope: float,
    decay: float,
    max_weight: float,
) -> list[Launch]:
    """Four launches: one brings the weights in order, then the joint convolution, the first of both branches, and their second
    ones with gates and blend."""
    joint = _chain(IN_CUDA, (f_cur, f_prev), weights[:1], biases[:1], (1.0,), (False,))
    branches = [
        _chain(IN_CUDA, (f_cur,), weights[i : i + 2], biases[i : i + 2], (slope, 1.0), (False, False))
        for i in (1, 3)
    ]
    halves = tuple(branch.image(f"half{k}", 0) for k, branch in enumerate(branches))
    packed = tuple(access(f"weight{i}", weight) for i, weight in enumerate(weights))

    def read(layer: int) -> list[Access]:
        """By this layer of both branches; all that lies between two kernels is as large as a half."""
        images = [branch.image(f"half{k}", 0, CONVOLUTION_TILE) for k, branch in enumerate(branches)]
        return images + [parameter for branch in branches for parameter in branch.parameters(layer)]

    first, last = (sum(branch.flops(layer) for branch in branches) for layer in (0, 1))
    features = access("f_prev", f_prev), access("f_cur", f_cur)
    joint_reads = (joint.image("inputs", -1, CONVOLUTION_TILE), *joint.parameters(0))
    return [
        Launch("pack", packed, packed),
        Launch("conv3x3", joint_reads, halves, joint.flops(0)),
        Launch("conv3x3_pair", tuple(read(0)), halves, first),
        Launch("atb_gates", (*read(1), *features), (access("out", f_cur),), last),
    ]


def _packing(chain: Chain, layers: int) -> list[Launch]:
    if not chain.packs:
        return []
    each = [access(f"weight{i}", w) for i, w in enumerate(chain.weights)]
    both = [each[k % len(each)] for k in range(layers)]  # a backward pass also wants them turned round
    groups = [tuple(both[k : k + PACKED_AT_ONCE]) for k in range(0, layers, PACKED_AT_ONCE)]
    return [Launch("pack", group, group) for group in groups]


def _parameters(chain: Chain, layers: range) -> tuple[Access, ...]:
    return tuple(parameter for i in layers for parameter in chain.parameters(i))


def _layers(chain: Chain, count: int) -> list[Launch]:
    """The first layers, one launch each."""
    launches = []
    for i in range(count):
        reads = [chain.image(f"x{i - 1}", i - 1, CONVOLUTION_TILE), *chain.parameters(i)]
        if chain.skips[i]:
            reads.append(chain.image(f"x{i - 2}", i - 2))
        launches.append(Launch("conv3x3", tuple(reads), (chain.image(f"x{i}", i),), chain.flops(i)))
    return launches


def _input_gradient(chain: Chain, i: int, results: Sequence[Access]) -> Launch:
    """The gradient of what layer i reads, or of some of the inputs, with that of a skip connection and the mask of the
    activation before it."""
    share = sum(result.bytes for result in results) / chain.image("", i - 1).bytes if i == 0 else 1
    weight = access(f"weight{i}", chain.weights[i])
    weight = Access(weight.tensor, round(share * weight.bytes), round(share * weight.requested))
    reads = [chain.image(f"grad{i}", i, CONVOLUTION_TILE), weight]
    if i + 1 < len(chain.weights) and chain.skips[i + 1]:
        reads.append(chain.image(f"grad{i + 1}", i + 1))
    if i > 0 and chain.slopes[i - 1] != 1:
        reads.append(chain.image(f"x{i - 1}", i - 1))
    return Launch("conv3x3", tuple(reads), tuple(results), round(share * chain.flops(i)))


def _weight_gradient(chain: Chain, i: int) -> list[Launch]:
    """Sums over parts of the images, then the sum of the parts, which are float32 (float64 for float64)."""
    weight, bias = chain.weights[i], chain.biases[i]
    wide = torch.float64 if chain.dtype == torch.float64 else torch.float32
    rows = weight.new_empty(_parts(chain, i), weight.numel() + bias.numel(), dtype=wide)
    outputs, inputs = (math.ceil(side / GRADIENT_CHANNELS) for side in weight.shape[:2])
    grad = chain.image(f"grad{i}", i, GRADIENT_TILE, rim=0, times=inputs)
    if i == 0 and chain.style.per_input:
        images = [access(f"input{k}", t, 9 * outputs) for k, t in enumerate(chain.inputs)]
    else:
        images = [chain.image(f"x{i - 1}", i - 1, GRADIENT_TILE, times=outputs)]
    whole = sum(image.bytes for image in images)
    launches = []
    for image in images:
        share = access("partial", rows).bytes * image.bytes // whole
        flops = chain.flops(i) * image.bytes // whole
        launches.append(Launch("weight_gradient", (image, grad), (Access("partial", share, share),), flops))
    results = access(f"grad_weight{i}", weight), access(f"grad_bias{i}", bias)
    return [*launches, Launch("sum_parts", (access("partial", rows),), results)]


def _parts(chain: Chain, i: int) -> int:
    """Parts that the gradient of the weights of layer i is summed in."""
    if chain.style.split is not None:
        return chain.images * math.ceil(chain.height * chain.width / chain.style.split)
    outputs, inputs = (math.ceil(side / GRADIENT_CHANNELS) for side in chain.weights[i].shape[:2])
    down, across = (
        math.ceil(side / tile) for side, tile in zip((chain.height, chain.width), GRADIENT_TILE, strict=True)
    )
    return min(max(8, GRADIENT_BLOCKS // (outputs * inputs)), chain.images * down * across)


# ---- all of them ----


def _by_name(*formulas: Formula) -> dict[str, Formula]:
    return {formula.__name__: formula for formula in formulas}


CUDA: Mapping[str, Formula] = _by_name(
    atb_blend,
    atb_blend_backward,
    atb_update,
    conv3x3_chain,
    conv3x3_chain_backward,
    dtb_blend,
    dtb_blend_backward,
    fac,
    fac_backward,
    gru_reset,
    gru_reset_backward,
    gru_update,
    gru_update_backward,
    irm_update,
    irm_update_backward,
    lstm_update,
    lstm_update_backward,
)
"""The compiled CUDA kernels (``csrc/cuda``)."""

TRITON: Mapping[str, Formula] = {
    **{name: formula for name, formula in CUDA.items() if name not in INFERENCE_OPS},
    "fac_backward": functools.partial(fac_backward, together=False),
    "conv3x3_chain": functools.partial(conv3x3_chain, style=IN_TRITON),
    "conv3x3_chain_backward": functools.partial(conv3x3_chain_backward, style=IN_TRITON),
    "irm_update": functools.partial(irm_update, style=IN_TRITON),
    "irm_update_backward": functools.partial(irm_update_backward, style=IN_TRITON),
}
"""The Triton kernels (``kernels``): every convolution a launch of its own, weights as they are."""
