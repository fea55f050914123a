"""One call of every op, forward and backward, for the tests that treat all ops alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from rirn import ops
from rirn.ops.spec import OPS
from tests.ops.cases import Case, image, randn

reference = SimpleNamespace(**{name: op.reference for name, op in OPS.items()})
"""The references of all ops, by name."""


def arguments(
    op: str, case: Case, device: str = "cpu", *, backward: bool = False, seed: int = 0
) -> list[Any]:
    """Arguments of ``rirn::op``, or of ``rirn::op_backward`` with all gradients wanted, without history."""
    found, generator = OPS[op], torch.Generator().manual_seed(seed)
    like = {"case": case, "generator": generator, "device": device}
    narrow = [at for at, channels in zip(found.one_for_all, case.logits, strict=False) if channels == "1"]
    made_images = 0

    def make(shape: tuple[int, ...], is_image: bool) -> Tensor:
        nonlocal made_images
        if is_image:
            made_images += 1
            return image(1 if made_images - 1 in narrow else shape[1], **like)
        if not shape:
            return torch.tensor(0.2).to(device, randn(1, **like).dtype)
        return randn(*shape, **like, scale=(9 * shape[1]) ** -0.5 if len(shape) == 4 else 0.1)

    made = found.arguments(case.n, case.c, case.h, case.w, make)
    if op == "atb_blend":
        made[-1] = case.max_weight
    made = tree_map_only(Tensor, Tensor.detach, made)
    if not backward:
        return made
    tensors = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
    generator = torch.Generator().manual_seed(9)
    results = found.fake(*made) if found.results > 1 else [found.fake(*made)]
    grads = [torch.randn(r.shape, generator=generator).to(r) for r in results]
    return [*grads, *made, (1 << len(tensors)) - 1]


def call(op: str, args: list[Any], backend: str | None = None) -> Any:
    """The public function of an op with what the torch op of its name takes."""
    return getattr(ops, op)(**dict(zip(OPS[op].signature.parameters, args, strict=True)), backend=backend)


class Recorder(TorchDispatchMode):
    """Keeps the torch ops that are called while it is on: ``called``, their names, and ``calls``, names with arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Any]] = []

    @property
    def called(self) -> set[str]:
        return {name for name, _ in self.calls}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append((func.overloadpacket.__name__, args))
        return func(*args, **(kwargs or {}))
