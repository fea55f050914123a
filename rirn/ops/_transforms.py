"""What autograd and the transforms of torch.func (grad, vjp, jvp, vmap) do with the torch ops ``rirn::*``.

torch.library.register_autograd makes kernels that refuse to run within torch.func.grad and silently drop the tangents of
forward mode. The kernels here run wherever those of torch's own ops do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

# Its kernels exist as long as it does.
_fragment = torch.library.Library("rirn", "FRAGMENT")  # type: ignore[no-untyped-call]


def tensors_of(args: Sequence[Any]) -> Iterator[Tensor]:
    """Yield the tensors among the arguments, including those in lists: bit i of ``output_mask`` means the i-th."""
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif is_tensor_list(arg):
            yield from arg


def is_tensor_list(arg: Any) -> bool:
    """Whether an argument is a non-empty list of tensors."""
    return isinstance(arg, (list, tuple)) and len(arg) > 0 and isinstance(arg[0], Tensor)


def within_transform() -> bool:
    """Whether a transform of torch.func is active."""
    return torch._C._are_functorch_transforms_active()


def follows_tangents(tensors: Sequence[Tensor]) -> bool:
    """Whether one of the tensors is the input of a forward-mode derivative in progress."""
    # Within compiled code a transform enters a level without forward_ad noticing.
    if forward_ad._current_level < 0 and not within_transform():
        return False
    return any(_tangent(t) is not None for t in tensors)


def is_differentiated(tensors: Sequence[Tensor]) -> bool:
    """Whether a call that reads these tensors may have to be differentiated, or batched by a transform."""
    with_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return with_gradient or within_transform() or follows_tangents(tensors)


def register_derivatives(
    name: str,
    save: Callable[[Any, Any, Any, Any], None],
    backward: Callable[..., tuple[Any, ...]],
    forward_mode: Callable[..., Any],
    holding: Callable[..., tuple[Any, Tensor]] | None = None,
) -> None:
    """Give the op ``rirn::<name>`` its derivatives.

    Args:
        save: ``save(ctx, arguments, results, held)`` keeps what ``backward`` needs.
        backward: ``backward(ctx, *gradients)`` returns a gradient or None for each tensor of :func:`tensors_of`.
        forward_mode: takes the op's arguments, including dual numbers, and returns dual numbers, of which only the
            tangents are used.
        holding: runs in place of the op on tensors in CPU memory, outside transforms and traces, and also returns
            something for ``backward``, which ``save`` gets as ``held``.
    """
    op = getattr(torch.ops.rirn, name).default
    returns_list = str(op._schema.returns[0].type) == "List[Tensor]"

    class Node(_SingleLevelFunction):
        @staticmethod
        def forward(ctx: Any, run: Callable[..., Any], args: Sequence[Any], *tensors: Tensor) -> Any:
            results, held = run()
            save(ctx, args, results, held)
            return tuple(results) if returns_list else results

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            return None, None, *backward(ctx, *grads)

    def kernel(keyset: torch._C.DispatchKeySet, *args: Any) -> Any:
        def run() -> tuple[Any, Tensor | None]:
            with torch._C._AutoDispatchBelowAutograd():
                if holds is not None:
                    return holds(*args)
                return op.redispatch(keyset & torch._C._after_autograd_keyset, *args), None

        tensors = list(tensors_of(args))
        holds: Callable[..., tuple[Any, Tensor]] | None = None
        if follows_tangents(tensors):
            return _with_tangents(op, forward_mode, args)
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
            return run()[0]
        if not within_transform():
            holds = holding if _are_plain(tensors) else None
            results = Node.apply(run, args, *tensors)  # type: ignore[attr-defined]
        else:
            with (
                enable_single_level_autograd_function()
            ):  # the level of one transform, which is where a kernel runs
                results = Node.apply(_differentiable(run), args, *tensors)  # type: ignore[attr-defined]
        return list(results) if returns_list else results

    _fragment.impl(name, kernel, "Autograd", with_keyset=True)  # type: ignore[no-untyped-call]


def _are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors are in CPU memory and what is done to them is not being traced."""
    return torch._C._len_torch_dispatch_stack() == 0 and all(
        t.device.type == "cpu" and type(t) in (Tensor, torch.nn.Parameter) for t in tensors
    )


def refuse_derivatives(name: str, message: str) -> None:
    """Make every derivative of the op ``rirn::<name>`` a RuntimeError instead of letting autograd silently leave it out."""

    def refuse(*args: Any) -> Any:
        raise RuntimeError(message)

    register_derivatives(name, lambda ctx, args, results, held: None, refuse, refuse)


def _differentiable(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same within the forward of a node, where autograd is off but the surrounding transforms stay active."""
    forward_mode = torch._C._is_fwd_grad_enabled()

    def run_on() -> Any:
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(forward_mode):
            return run()

    return run_on


def _tangent(t: Tensor) -> Tensor | None:
    tangent: Tensor | None = torch._VF._unpack_dual(t, level=0)[1]
    return tangent


def _with_tangents(op: Callable[..., Any], forward_mode: Callable[..., Any], args: Sequence[Any]) -> Any:
    duals = forward_mode(*args)
    results = op(*(_each(arg, lambda t: torch._VF._unpack_dual(t, level=0)[0]) for arg in args))
    several = isinstance(results, tuple)
    pairs = zip(results if several else [results], duals if several else [duals], strict=True)
    made = [torch._VF._make_dual(result, _tangent(dual), level=0) for result, dual in pairs]  # type: ignore[arg-type]
    return tuple(made) if several else made[0]


def _each(arg: Any, function: Callable[..., Any], *others: Any) -> Any:
    """Apply a function to a tensor, or to each of a list, and leave other arguments as they are."""
    if isinstance(arg, Tensor):
        return function(arg, *others)
    if is_tensor_list(arg):
        return [function(*same) for same in zip(arg, *others, strict=True)]
    return arg


def register_batching(name: str, images: int, grads: int = 0) -> None:
    """Let vmap run the op ``rirn::<name>`` once, with the images concatenated in the batch, if none of its other
    tensors is batched; otherwise once per index.

    Args:
        images: number of arguments, from the front, that are [N, C, H, W] or lists of these.
        grads: for a backward op, how many of these are gradients from above. Its last argument is the bit mask of the
            wanted gradients.
    """
    op = getattr(torch.ops.rirn, name).default

    def batched(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        size = info.batch_size
        shared = [
            dim for dims in in_dims[images:] for dim in (dims if isinstance(dims, (list, tuple)) else [dims])
        ]
        folded = len(list(tensors_of(args[grads:images])))
        one_for_all = all(dim is None for dim in shared) and not (grads and args[-1] >> folded)
        if one_for_all:
            joined = [
                _each(arg, _fold(size), dims) for arg, dims in zip(args[:images], in_dims, strict=False)
            ]
            found = op(*joined, *args[images:])
            split = [
                t.unflatten(0, (size, t.shape[0] // size)) if t.dim() == 4 else t  # type: ignore[no-untyped-call]
                for t in _listed(found)
            ]
            dims = [0 if t.dim() == 5 else None for t in split]
        else:
            each = [
                op(*(_each(a, _at(i), d) for a, d in zip(args, in_dims, strict=True))) for i in range(size)
            ]
            found = each[0]
            split = [torch.stack(same) for same in zip(*map(_listed, each), strict=True)]
            dims = [0] * len(split)
        return (split[0], dims[0]) if isinstance(found, Tensor) else (type(found)(split), type(found)(dims))

    torch.library.register_vmap(f"rirn::{name}", batched, lib=_fragment)


def _listed(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


def _fold(size: int) -> Callable[[Tensor, int | None], Tensor]:
    def fold(t: Tensor, dim: int | None) -> Tensor:
        return (t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)).flatten(0, 1)

    return fold


def _at(index: int) -> Callable[[Tensor, int | None], Tensor]:
    return lambda t, dim: t if dim is None else t.select(dim, index)
