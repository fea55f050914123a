"""Observe temporal blending while a network runs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from rirn.nn.atb import ATB
from rirn.nn.dtb import DTB


@dataclasses.dataclass(frozen=True)
class Blending:
    """One call of ATB or DTB, tensors [N, c, H, W]."""

    module: ATB | DTB
    features: Tensor
    """f_t."""
    previous: Tensor
    """f~_{t-1}, zeros at the start of a sequence."""
    blended: Tensor
    """f~_t."""

    def maps(self) -> tuple[Tensor, Tensor]:
        """Weights of f~_{t-1} and of f_t, each [N, c, H, W]; recomputed at each call, since the fused ops keep none."""
        return self.module.maps(f_prev=self.previous, f_cur=self.features)


def blending_modules(model: nn.Module) -> list[ATB | DTB]:
    """Return the modules that blend features over time in a model; STRCNN has its own DTB."""
    return [module for module in model.modules() if isinstance(module, ATB | DTB)]


@contextlib.contextmanager
def watch_blending(model: nn.Module, see: Callable[[Blending], Any]) -> Iterator[None]:
    """Within the block, call ``see`` whenever the model blends features over time: once per frame, in order.

    It is never called for a model without :func:`blending_modules`.

    Example:
        >>> import torch, rirn
        >>> from rirn.nn import watch_blending
        >>> model, seen = rirn.create_model("gru+atb", width=0.2), []
        >>> with torch.no_grad(), watch_blending(model, seen.append):
        ...     restored = model(torch.rand(1, 3, 3, 16, 16))
        >>> weight_prev, weight_cur = seen[0].maps()
        >>> len(seen), torch.allclose(seen[0].blended, weight_cur * seen[0].features)
        (3, True)
    """

    def note(module: ATB | DTB, args: tuple[()], named: dict[str, Tensor], output: Tensor) -> None:
        see(Blending(module, named["f_cur"], named["f_prev"], output))

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in blending_modules(model)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
