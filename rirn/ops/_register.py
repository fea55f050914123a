"""How an op runs: which form takes a call, and the glue between an op and its kernels, fake kernel and derivative, for the
compiled form ``rirn::<op>`` and the Triton form ``rirn::triton_<op>``."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rirn.ops._call import autocast, call_reference, is_wanted, output_mask_of
from rirn.ops._library import library
from rirn.ops._transforms import (
    is_tensor_list,
    refuse_derivatives,
    register_batching,
    register_derivatives,
    tensors_of,
)
from rirn.ops.backends import AUTO_ORDER, BACKENDS, choose, find_op, is_auto
from rirn.ops.held import most_held
from rirn.ops.precision import runs_fast, trains_fast
from rirn.ops.spec import OPS, Op
from rirn.ops.tuning import WIDE, tuned


def register(op: Op) -> Op:
    """Add an op to the table; its compiled form, if any, is attached at once, its Triton form at the first call."""
    OPS[op.name] = op
    if library().loaded and hasattr(torch.ops.rirn, op.name):
        _attach(op, op.name)
    return op


def call(op: Op, backend: str | None, *args: Any) -> Any:
    """Run an op on the requested or the best backend, after the autocast rule and the op's own rules."""
    given = _cast(op, args)
    op.rules(*given)
    device = _device(op, given)
    name = choose(op.name, device, backend)
    if name == "reference":
        return call_reference(op.reference, device.type, *given)
    if is_auto(backend):
        name, left = _auto(op, name, given)
        if left is not None:
            return call_reference(op.library or op.reference, device.type, *given)
    if name == "cpu" and op.as_chain is not None and runs_fast(list(tensors_of(given))):
        return _as_like(op, given, torch.ops.rirn.conv3x3_chain_fast(*op.as_chain(*given)))
    return form(op.name, name)(*given)


def form(op: str, backend: str) -> Callable[..., Any]:
    """Return the torch op that a fused backend runs."""
    if backend == "triton":
        _defined(op)
    found: Callable[..., Any] = getattr(torch.ops.rirn, f"triton_{op}" if backend == "triton" else op)
    return found


def _defined(op: str) -> bool:
    define_triton(op)
    return True


# A constant for torch.compile, see rirn.ops.backends: it cannot trace the definition of an op.
_defined._dynamo_marked_constant = True  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Explanation:
    """Which backend a call of an op would take under ``auto``.

    Attributes:
        op: the name of the op.
        backend: the choice of ``auto``.
        why_not: the other backends, each with the reason in words.

    Example:
        >>> import torch
        >>> from rirn.ops import atb_blend, explain
        >>> x = torch.zeros(1, 2, 3, 3)
        >>> str(explain(atb_blend, x, x, x, x)).partition(" runs on ")[0]
        'atb_blend'
    """

    op: str
    backend: str
    why_not: dict[str, str]

    def __str__(self) -> str:
        others = "".join(f"\n  not {name}: {reason}" for name, reason in self.why_not.items())
        return f"{self.op} runs on {self.backend}{others}"


def explain(op: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Explain which backend a call would take under ``auto``, and why not each of the others. Nothing runs.

    Args:
        op: the function or its name.
        args: what the function would be called with; so are ``kwargs``.

    Raises:
        RirnError: there is no such op.
        ValueError: the arguments do not fit, as in the call itself.

    Example:
        >>> import torch
        >>> from rirn.ops import atb_blend, explain
        >>> x = torch.zeros(1, 2, 3, 3)
        >>> explain(atb_blend, x, x, x, x).why_not["cuda"]
        'it works on CUDA tensors, and these are on cpu'
    """
    found = find_op(op if isinstance(op, str) else getattr(op, "__name__", str(op)))
    kwargs.pop("backend", None)
    bound = found.signature.bind(*args, **kwargs)
    bound.apply_defaults()
    given = _cast(found, bound.args)
    found.rules(*given)
    device = _device(found, given)
    order = AUTO_ORDER.get(device.type, ("reference",))
    reasons = {name: backend.why_not(found.name, device) for name, backend in BACKENDS.items()}
    taken = next(name for name in order if reasons[name] is None)
    if taken != "reference":
        taken, left = _auto(found, taken, given)
        if left is not None:
            reasons[taken], taken = left, "reference"
    why_not = {
        name: reason
        or (f"`auto` takes {taken}" if name in order else f"`auto` takes it on no {device.type} tensors")
        for name, reason in reasons.items()
        if name != taken
    }
    return Explanation(found.name, taken, why_not)


def _cast(op: Op, args: Sequence[Any]) -> list[Any]:
    """The arguments with all tensors in the dtype of the surrounding autocast region, if there is one."""
    flat: list[Tensor] = []
    for kind, arg in zip(op.kinds, args, strict=True):
        flat += [arg] if kind == "Tensor" else arg if "Tensor" in kind else []
    tensors, found = autocast(*flat), []
    for kind, arg in zip(op.kinds, args, strict=True):
        count = 1 if kind == "Tensor" else len(arg) if "Tensor" in kind else 0
        first, tensors = tensors[:count], tensors[count:]
        found.append(first[0] if kind == "Tensor" else list(first) if "Tensor" in kind else arg)
    return found


def _device(op: Op, args: Sequence[Any]) -> torch.device:
    first = args[0] if op.kinds[0] == "Tensor" else args[0][0]
    device: torch.device = first.device
    return device


def _auto(op: Op, backend: str, args: Sequence[Any]) -> tuple[str, str | None]:
    """What ``auto`` takes when ``backend`` is the first of ours that can run, or why torch is faster."""
    left = None if op.left_to_library is None else op.left_to_library(backend, *args)
    if left is not None or op.width is None or _device(op, args).type != "cuda":
        return backend, left
    first = args[0] if op.kinds[0] == "Tensor" else args[0][0]
    form = tuned(op.name, first, op.width(*args), backend)
    return (backend, WIDE) if form == "library" else (form, None)


@functools.cache
def define_triton(name: str) -> None:
    """Define ``rirn::triton_<op>`` and its backward op on the op's kernels in ``rirn.kernels``.

    Their module fills what is allocated here: ``forward(*results, *arguments)`` and ``backward(gradients,
    *gradients from above, *arguments)``, where unwanted gradients are None.
    """
    op = OPS[name]
    file, translate = op.triton or (name, lambda *args: args)
    kernels = importlib.import_module(f"rirn.kernels.{file}")
    arguments = op.schema.partition(") -> ")[0]
    grads_from_above = ", ".join(f"Tensor grad{i}" for i in range(op.results))

    def forward(*args: Any) -> Any:
        assert op.fake is not None
        found = op.fake(*args)
        outs = found if isinstance(found, tuple) else (found,)
        if outs[0].numel():
            kernels.forward(*outs, *translate(*args))
        return found

    def backward(*args: Any) -> list[Tensor]:
        *given, output_mask = args
        above, inputs = given[: op.results], given[op.results :]
        grads = _allocate_gradients(inputs, output_mask)
        if given[0].numel():
            wanted = [g if is_wanted(output_mask, i) else None for i, g in enumerate(grads)]
            kernels.backward(wanted, *above, *translate(*inputs))
            return grads
        return [g.zero_() for g in grads]

    for torch_op, signature, function in (
        (f"rirn::triton_{name}", op.schema, forward),
        (
            f"rirn::triton_{name}_backward",
            f"({grads_from_above}, {arguments[1:]}, SymInt output_mask) -> Tensor[]",
            backward,
        ),
    ):
        torch.library.define(torch_op, signature, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(torch_op, "CompositeExplicitAutograd", function)
    _attach(op, f"triton_{name}")


def _through_activation(grad: Tensor, result: Tensor, slope: float) -> Tensor:
    """The gradient before the activation that made ``result``, as in torch: NaN gradients propagate."""
    through: Tensor
    if slope == 0:
        through = torch.ops.aten.threshold_backward(grad, result, 0)
    else:
        through = torch.ops.aten.leaky_relu_backward(grad, result, slope, True)
    return through


def _allocate_gradients(args: Sequence[Any], output_mask: int) -> list[Tensor]:
    return [
        torch.empty_like(t) if is_wanted(output_mask, i) else t.new_empty(0)
        for i, t in enumerate(tensors_of(args))
    ]


def _save(op: Op, ctx: Any, inputs: tuple[Any, ...], output: Any, held: Tensor | None) -> None:
    """Save what :func:`_backward` needs: the inputs, the result of an op that ends in an activation, and what a chain holds."""
    ctx.slope = op.last_slope(*inputs) if op.last_slope else 1.0
    ctx.holds = held is not None and held.numel() > 0
    ctx.fast = held is not None and trains_fast()
    ctx.save_for_backward(
        *tensors_of(inputs), *([output] if ctx.slope != 1 else []), *([held] if ctx.holds else [])
    )
    ctx.options = [None if isinstance(arg, Tensor) or is_tensor_list(arg) else arg for arg in inputs]
    ctx.counts = [len(arg) if is_tensor_list(arg) else None for arg in inputs]


def _backward(op: Op, gradient: Callable[..., Any], ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    saved = iter(ctx.saved_tensors)
    args: list[Any] = []
    for option, count in zip(ctx.options, ctx.counts, strict=True):
        if count is not None:
            args.append(list(itertools.islice(saved, count)))
        else:
            args.append(next(saved) if option is None else option)
    if ctx.slope != 1:
        grads = (_through_activation(grads[0], next(saved), ctx.slope),)
    output_mask = output_mask_of(ctx.needs_input_grad[-len(list(tensors_of(args))) :])
    if ctx.holds or ctx.fast:
        assert op.as_chain is not None
        held = next(saved) if ctx.holds else grads[0].new_empty(0)
        found = torch.ops.rirn.conv3x3_chain_held_backward(
            *grads, held, *op.as_chain(*args), output_mask, ctx.fast
        )
    else:
        found = gradient(*grads, *args, output_mask)
    return tuple(g if is_wanted(output_mask, i) else None for i, g in enumerate(found))


def _holding(op: Op, *args: Any) -> tuple[Any, Tensor]:
    """Run an op that is a chain, and hold as many of its activations as the limit allows."""
    assert op.as_chain is not None
    result, held = torch.ops.rirn.conv3x3_chain_holding(*op.as_chain(*args), most_held(), trains_fast())
    return _as_like(op, args, result), held


def _as_like(op: Op, args: Sequence[Any], result: Tensor) -> Tensor:
    """The result of a chain in the memory format that the op promises."""
    if op.like:
        like = args[list(op.signature.parameters).index(op.like)]
        if result.stride() != like.stride():
            return torch.empty_like(like).copy_(result)
    return result


def _attach(op: Op, name: str) -> None:
    """Give the form ``rirn::<name>`` of an op and ``rirn::<name>_backward`` their fake kernels and batching rules, and the
    former its derivatives.

    The derivative is the op ``{name}_backward(*output gradients, *inputs, output_mask)``, which returns one gradient
    per tensor, an empty one if bit i of ``output_mask`` is not set.
    """
    gradient = getattr(torch.ops.rirn, f"{name}_backward").default
    returns_list = len(gradient._schema.returns) == 1
    n_results = op.results

    def fake_backward(*args: Any) -> Any:
        *given, output_mask = args
        grads = _allocate_gradients(given[n_results:], output_mask)
        return grads if returns_list else tuple(grads)

    def forward_mode(*args: Any) -> Any:
        device = next(tensors_of(args)).device
        return call_reference(op.reference, device.type, *args)

    torch.library.register_fake(f"rirn::{name}", op.fake)
    torch.library.register_fake(f"rirn::{name}_backward", fake_backward)
    register_derivatives(
        name,
        functools.partial(_save, op),
        functools.partial(_backward, op, gradient),
        forward_mode,
        functools.partial(_holding, op) if op.as_chain and name == op.name else None,
    )
    once = (
        f"{name} on a fused backend can be differentiated once only: "
        "run it with backend='reference' where you need create_graph=True or a derivative of a gradient"
    )
    refuse_derivatives(f"{name}_backward", once)
    if name == "conv3x3_chain":
        refuse_derivatives(
            "conv3x3_chain_holding", "conv3x3_chain_holding has no derivative: call conv3x3_chain"
        )
        refuse_derivatives("conv3x3_chain_held_backward", once)
        torch.library.register_fake("rirn::conv3x3_chain_fast", op.fake)
        refuse_derivatives("conv3x3_chain_fast", "conv3x3_chain_fast has no derivative: call conv3x3_chain")
    register_batching(name, op.images)
    register_batching(f"{name}_backward", n_results + op.images, n_results)
