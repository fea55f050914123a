"""Inputs for the tests of the ops: small, of odd sizes, in every dtype and layout, with ids one can read in a log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.tolerances import DTYPES


@dataclass(frozen=True)
class Case:
    """One set of sizes. ``layout`` says how the [N, C, H, W] tensors lie in memory."""

    n: int
    c: int
    h: int
    w: int
    dtype: str = "fp32"
    layout: str = "contiguous"
    logits: str = "CC"  # channels of the logits of a blend in their order, each C or 1
    max_weight: float = 1.0

    def __str__(self) -> str:
        parts = [f"N{self.n}-C{self.c}-H{self.h}-W{self.w}-{self.dtype}-{self.layout}"]
        if self.logits != "CC":
            parts.append(f"logits{self.logits}")
        if self.max_weight != 1.0:
            parts.append(f"max{self.max_weight}")
        return "-".join(parts)


def lay_out(x: Tensor, layout: str) -> Tensor:
    """Return the values of ``x`` [N, C, H, W] laid out in memory as named; everything around a view holds NaN."""
    n, c, h, w = x.shape
    if layout == "contiguous":
        return x
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":  # contiguous, but not from the start of its storage
        view = x.new_full((n + 2, c, h, w), torch.nan)[1:-1]
    elif layout == "strided":  # neither dense nor contiguous
        view = x.new_full((n, 2 * c, h, w + 3), torch.nan)[:, ::2, :, 1 : w + 1]
    elif layout == "transposed":  # dense, in an unusual order
        view = x.new_full((n, c, w, h), torch.nan).transpose(2, 3)
    elif layout == "row_gaps":  # channels last, two pixels between one row and the next
        view = x.new_full((n, h, w + 2, c), torch.nan).permute(0, 3, 1, 2)[..., :w]
    elif layout == "expanded":  # one image read for the whole batch
        return x[:1].expand(n, c, h, w)
    else:
        raise ValueError(f"unknown layout {layout!r}")
    view.copy_(x)
    return view


def lay_out_parameter(x: Tensor) -> Tensor:
    """Return a copy of weights [out, in, 3, 3], dense but in no order of torch's, or of a bias [out], with gaps, as a leaf."""
    copy = (
        x.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
        if x.dim() == 4
        else x.repeat_interleave(2)[::2]
    )
    return copy.detach().requires_grad_()


def randn(*shape: int, case: Case, generator: torch.Generator, device: str, scale: float = 1.0) -> Tensor:
    """Return a leaf tensor of the case's dtype (and layout, if 4-D activations) that wants a gradient."""
    x = (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(device, DTYPES[case.dtype])
    return x.requires_grad_()


def image(c: int, case: Case, generator: torch.Generator, device: str) -> Tensor:
    """Return an [N, c, H, W] leaf in the layout of the case."""
    x = randn(case.n, c, case.h, case.w, case=case, generator=generator, device=device)
    return lay_out(x.detach(), case.layout).requires_grad_()


def atb_inputs(case: Case, device: str = "cpu", seed: int = 0) -> list[Tensor]:
    """Return f_prev, f_cur, logit_prev, logit_cur."""
    generator = torch.Generator().manual_seed(seed)
    channels = [case.c, case.c, *(case.c if which == "C" else 1 for which in case.logits)]
    return [image(c, case, generator, device) for c in channels]


def irm_inputs(case: Case, device: str = "cpu", seed: int = 0) -> list[Tensor]:
    """Return hidden, inner, six weights, six biases in one flat list."""
    generator = torch.Generator().manual_seed(seed)
    c = case.c
    weight_scale = (2 * c * 9) ** -0.5  # keeps activations of order one through the six layers
    outs = [2 * c] * 5 + [c]
    return [
        image(c, case, generator, device),
        image(c, case, generator, device),
        *(
            randn(o, 2 * c, 3, 3, case=case, generator=generator, device=device, scale=weight_scale)
            for o in outs
        ),
        *(randn(o, case=case, generator=generator, device=device, scale=0.1) for o in outs),
    ]


def images(*channels: int) -> Callable[..., list[Tensor]]:
    """Return a maker of inputs [N, k * C, H, W], one for each k of ``channels``."""

    def make(case: Case, device: str = "cpu", seed: int = 0) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [image(k * case.c, case, generator, device) for k in channels]

    return make


def like_truth(tensors: list[Tensor]) -> list[Tensor]:
    """Return float64 copies on the CPU that want gradients themselves."""
    return [t.detach().cpu().double().requires_grad_() for t in tensors]
