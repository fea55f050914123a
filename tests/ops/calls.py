"""One call of every op, forward and backward, for the tests that treat all ops alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from rirn import ops
from tests.ops.cases import Case, atb_inputs, dtb_inputs, image, images, irm_inputs, randn

BLOCK = ((0.0, 1.0), (0, 1))
"""Slopes and skips of a residual block."""


def _irm(case: Case, device: str) -> list[Any]:
    flat = irm_inputs(case, device)
    return [*flat[:2], flat[2:8], flat[8:]]


def _chain(case: Case, device: str) -> list[Any]:
    generator, c = torch.Generator().manual_seed(0), case.c
    like = {"case": case, "generator": generator, "device": device}
    weights = [randn(c, c, 3, 3, **like, scale=(9 * c) ** -0.5) for _ in range(2)]
    biases = [randn(c, **like, scale=0.1) for _ in range(2)]
    return [[image(c, case, generator, device)], weights, biases, *map(list, BLOCK), False, False]


ARGUMENTS: dict[str, Callable[[Case, str], list[Any]]] = {
    "atb_blend": lambda case, device: [*atb_inputs(case, device), case.max_weight],
    "conv3x3_chain": _chain,
    "dtb_blend": dtb_inputs,
    "fac": images(1, 25),
    "gru_reset": images(1, 1),
    "gru_update": images(1, 1, 1),
    "irm_update": _irm,
    "lstm_update": images(4, 1),
}
"""What the torch op of each name takes."""


def arguments(op: str, case: Case, device: str = "cpu", *, backward: bool = False) -> list[Any]:
    """Arguments of ``rirn::op``, or of ``rirn::op_backward`` with all gradients wanted, without history."""
    made = tree_map_only(Tensor, Tensor.detach, ARGUMENTS[op](case, device))
    if not backward:
        return made
    tensors = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
    generator = torch.Generator().manual_seed(9)
    state = tensors[{"gru_reset": 1, "lstm_update": 1}.get(op, 0)]
    shape, count = state.shape, 2 if op == "lstm_update" else 1
    grads = [torch.randn(shape, generator=generator).to(state) for _ in range(count)]
    return [*grads, *made, (1 << len(tensors)) - 1]


def call(op: str, args: list[Any], backend: str | None = None) -> Any:
    """The public function of an op with what the torch op of its name takes."""
    function = getattr(ops, op)
    if op == "atb_blend":
        return function(*args[:-1], max_weight=args[-1], backend=backend)
    if op == "conv3x3_chain":
        return function(*args[:-2], unshuffle=args[-2], shuffle=args[-1], backend=backend)
    return function(*args, backend=backend)
