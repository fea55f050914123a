"""Activation checkpointing: memory for one stage at a time, in exchange for computing each stage twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from rirn.ops.backends import backend_in_use, use_backend


def recomputed(model: nn.Module, stage: Callable[..., Any], *args: Any) -> Any:
    """``stage(*args)``, of which only the arguments are kept for the gradient.

    The second pass runs the very same operations, so gradients are equal to the last bit. It runs on the backend of the
    first, also in autograd's own threads, and leaves the running statistics of batch norms alone.

    Args:
        model: what the stage belongs to.
        stage: draws no random numbers.
        args: of the stage; tensors may lie within sequences and states.
    """
    backend = backend_in_use()

    def contexts() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
        return contextlib.nullcontext(), _again(model, backend)

    return checkpoint(stage, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextlib.contextmanager
def _again(model: nn.Module, backend: str) -> Iterator[None]:
    # What a module counts or averages must count the pass once: the second one works on copies.
    held = [(module, dict(module.named_buffers(recurse=False))) for module in model.modules()]
    for module, buffers in held:
        module._buffers.update({name: buffer.clone() for name, buffer in buffers.items()})
    try:
        with use_backend(backend):
            yield
    finally:
        for module, buffers in held:
            module._buffers.update(buffers)
