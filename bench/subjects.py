"""A case as a module with its inputs, in any dtype and layout."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from rirn import ops
from rirn.bench.cases import DTYPES, Case
from rirn.models import VideoDeblurrer, create_model
from rirn.models.init import preserve_variance_
from rirn.nn import ATB, IRM, ResBlock
from rirn.ops import use_backend
from rirn.ops.spec import OPS
from rirn.training.losses import psnr_loss
from rirn.weights import load
from rirn.weights.names import shipped

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}

# Magnitudes of the biases in front of ReLUs, with signs alternating from channel to channel. They keep every activation off the
# kink, where rounding decides on which side it falls: one such flip in a million changes a gradient by 1e-3, in eager PyTorch and
# the fused ops alike, and would hide real differences. Each layer needs more, since it reads the offsets of the previous one.
OFF_THE_KINK = (6.0, 30.0, 200.0)


class Named(nn.Module):
    """Calls a module that takes its tensors by name with positional ones, in the order of ``names``."""

    def __init__(self, module: nn.Module, *names: str):
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(**dict(zip(self.names, inputs, strict=True)))


class Apply(nn.Module):
    """A function of tensors as a module, so that ops and networks are handled alike."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors)


class Step(nn.Module):
    """One step of a network within a video: frame [N, 3, H, W] and state -> image and state."""

    def __init__(self, model: VideoDeblurrer):
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.model.step(frame, state)


class Loss(nn.Module):
    """A network on a clip with the loss of a training step: two clips [N, T, 3, H, W] -> []."""

    def __init__(self, model: VideoDeblurrer):
        super().__init__()
        self.model = model

    def forward(self, blurry: Tensor, sharp: Tensor) -> Tensor:
        return psnr_loss(self.model(blurry), sharp)


class LibraryIRM(nn.Module):
    """IRM on torch's convolutions in the dtype of its inputs, where its reference uses float32."""

    def __init__(self, irm: IRM):
        super().__init__()
        self.irm = irm
        self.channels = irm.channels

    def forward(self, hidden: Tensor, inner: Tensor) -> Tensor:
        x = F.relu(self.irm.joint(torch.cat([hidden, inner], 1)))
        return self.irm.out(self.irm.res2(self.irm.res1(x)))


class Subject:
    """A module and its inputs."""

    def __init__(self, module: nn.Module, inputs: tuple[Any, ...]):
        self.module = module
        self.inputs = inputs

    def to(self, device: str | torch.device, dtype: torch.dtype, layout: str = "NCHW") -> Subject:
        """Return a copy on another device, in another dtype or layout."""
        memory_format = LAYOUTS[layout]
        module = copy.deepcopy(self.module).to(device=device, dtype=dtype, memory_format=memory_format)

        def convert(t: Tensor) -> Tensor:
            # Clips have five dimensions; channels_last is for the four of images.
            form = memory_format if t.dim() == 4 else torch.contiguous_format
            copied = t.detach().to(device=device, dtype=dtype, copy=True).contiguous(memory_format=form)
            return copied.requires_grad_(t.requires_grad)

        return Subject(module, tree_map_only(Tensor, convert, self.inputs))

    def wanted(self) -> list[Tensor]:
        """The tensors to compute gradients for."""
        leaves = [t for t in tensors(self.inputs) if t.requires_grad]
        return leaves + list(self.module.parameters())


def on_library(subject: Subject) -> Subject:
    """Return a copy that runs ``reference`` without detours through float32, for a fair competitor in half precision."""
    module = copy.deepcopy(subject.module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, IRM):
                setattr(parent, name, LibraryIRM(child))
    return Subject(module, subject.inputs)


def tensors(tree: Any) -> list[Tensor]:
    """All tensors in tuples, lists and states."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def make(case: Case) -> Subject:
    """Return the case on the CPU, in its dtype, with the same values every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        subject = _network(case) if case.channels is None else _op(case, case.channels)
    return subject.to("cpu", DTYPES[case.dtype])


def _op(case: Case, c: int) -> Subject:
    def images(*channels: int) -> tuple[Tensor, ...]:
        return tuple(
            torch.randn(case.batch, k, case.height, case.width, requires_grad=True) for k in channels
        )

    if case.name == "irm_update":
        module: nn.Module = IRM(c)
        _randomize(module, before_relu=[module.joint, module.res1.conv1, module.res2.conv1])
        return Subject(Named(module, "hidden", "inner"), images(c, c))
    if case.name == "conv3x3_chain":
        module = ResBlock(c)
        _randomize(module, before_relu=[module.conv1])
        return Subject(module, images(c))
    if case.name == "ATB":
        module = ATB(c)
        _randomize(module)
        return Subject(Named(module, "f_cur", "f_prev"), images(c, c))
    if case.name == "trunk":
        module = nn.Sequential(*[ResBlock(c) for _ in range(6)])
        preserve_variance_(module)
        return Subject(module, images(c))
    op = OPS[case.name]

    def made(shape: tuple[int, ...], is_image: bool) -> Tensor:
        values = torch.randn(shape) if is_image else torch.full(shape, 0.1)
        return values.requires_grad_()

    # Only tensors: other options have their defaults.
    arguments = op.arguments(case.batch, c, case.height, case.width, made)
    return Subject(Apply(getattr(ops, op.name)), tuple(tensors(arguments)))


@torch.no_grad()
def _randomize(module: nn.Module, before_relu: list[nn.Conv2d] | None = None) -> None:
    """Set weights that keep activations of order one, small biases, and activations off the kink of ReLUs."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            nn.init.normal_(layer.bias, std=0.1)
    for layer, size in zip(before_relu or [], OFF_THE_KINK, strict=False):
        layer.bias += size * (-1) ** torch.arange(len(layer.bias))


def _network(case: Case) -> Subject:
    if case.name in shipped():
        model = load(case.name, trainable=case.group == "train")
    else:
        model = create_model(case.name)
        preserve_variance_(model)  # else an untrained network returns nearly the same image for any input
    if case.group == "train":
        blurry, sharp = torch.rand(2, case.batch, case.frames, 3, case.height, case.width)
        return Subject(Loss(model.train()), (blurry, sharp))
    model.eval()
    image = state = None
    with torch.no_grad(), use_backend("reference"):
        while image is None:  # until the delay of networks with look-ahead has filled
            image, state = model.step(torch.rand(1, 3, case.height, case.width), state)
    return Subject(Step(model), (torch.rand(1, 3, case.height, case.width), state))


class Work(NamedTuple):
    """The minimum work of a pass."""

    flops: int | None
    """Operations of direct convolutions, or of ops without convolutions; None if not counted."""
    bytes: int
    """All inputs and outputs, each once."""


@functools.cache
def work(case: Case, passes: str) -> Work:
    """Count the minimum work of one pass of a case, without computing anything."""
    subject = make(case).to("meta", DTYPES[case.dtype])
    # The counter sees no other backend's convolutions.
    with use_backend("reference"), FlopCounterMode(display=False) as counter:
        out = tensors(subject.module(*subject.inputs))
        forward = counter.get_total_flops()
        if passes != "forward":
            torch.autograd.backward(out, [torch.empty_like(t) for t in out])  # the counter refuses grad()
    flops: int | None = counter.get_total_flops() - (forward if passes == "backward" else 0)
    if case.is_pointwise:
        result = out[0].numel()
        flops = (OPS[case.name].operations or 0) * result if passes == "forward" else None
    ins = sum(map(_bytes, [*tensors(subject.inputs), *subject.module.parameters()]))
    outs, grads = sum(map(_bytes, out)), sum(map(_bytes, subject.wanted()))
    moved = {"forward": ins + outs, "backward": ins + outs + grads}
    return Work(flops, moved[passes] if passes in moved else sum(moved.values()))


def _bytes(t: Tensor) -> int:
    return t.numel() * t.element_size()
