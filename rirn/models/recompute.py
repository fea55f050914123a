"""Activation checkpointing: memory for one stage at a time, in exchange for computing each stage twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from rirn.ops.backends import backend_in_use, use_backend


def recomputed(model: nn.Module, stage: Callable[..., Any], *args: Any) -> Any:
    """Run ``stage(*args)``, keeping only the arguments for the gradient.

    The second pass runs exactly the same operations, so gradients are bit-identical. It runs on the backend of the
    first, even in autograd's own threads, and leaves the running statistics of batch norms alone.

    Args:
        model: the model that the stage belongs to.
        stage: must draw no random numbers.
        args: arguments of the stage; tensors may be within sequences and states.
    """
    backend = backend_in_use()

    def contexts() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
        return contextlib.nullcontext(), _again(model, backend)

    return checkpoint(stage, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextlib.contextmanager
def _again(model: nn.Module, backend: str) -> Iterator[None]:
    # Running counts and averages must see the pass only once: the second one works on copies.
    held = [(module, dict(module.named_buffers(recurse=False))) for module in model.modules()]
    for module, buffers in held:
        module._buffers.update({name: buffer.clone() for name, buffer in buffers.items()})
    try:
        with use_backend(backend):
            yield
    finally:
        for module, buffers in held:
            module._buffers.update(buffers)
