"""The glue between an op and its kernels, written once per op: fake kernel and derivative, for the compiled form
``rirn::<op>`` and for the Triton form ``rirn::triton_<op>``."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rirn.ops import reference
from rirn.ops._call import call_reference, is_wanted, needs_mask
from rirn.ops._library import library
from rirn.ops._transforms import (
    is_tensor_list,
    refuse_derivatives,
    register_batching,
    register_derivatives,
    tensors_of,
)
from rirn.ops.backends import choose
from rirn.ops.held import most_held


@dataclass(frozen=True)
class Glue:
    """What an op's forms have in common.

    Attributes:
        fake: allocates the results, as a function of the op's arguments with annotations from which a schema
            can be read.
        images: number of arguments, from the front, that have the batch in dimension 0.
        last_slope: for an op that ends in an activation, its slope below zero, as a function of the arguments;
            the backward op then gets the gradient in front of the activation.
        as_chain: for an op that is a chain of convolutions on the CPU, its arguments as those of ``conv3x3_chain``,
            which can hold activations for the backward pass; see :mod:`rirn.ops.held`.
    """

    fake: Callable[..., Any]
    images: int
    last_slope: Callable[..., float] | None = None
    as_chain: Callable[..., tuple[Any, ...]] | None = None


_glue: dict[str, Glue] = {}


def register(
    op: str,
    fake: Callable[..., Any],
    images: int,
    last_slope: Callable[..., float] | None = None,
    as_chain: Callable[..., tuple[Any, ...]] | None = None,
) -> None:
    """Say how ``op`` allocates and differentiates, see :class:`Glue`; the compiled form, if there is one, gets
    it at once, the Triton form when it is first chosen."""
    _glue[op] = Glue(fake, images, last_slope, as_chain)
    if library().loaded and hasattr(torch.ops.rirn, op):
        _attach(op, op, _glue[op])


def call(op: str, device: torch.device, backend: str | None, *args: Any) -> Any:
    """Run ``op`` on arguments that are already checked, on the backend that is asked for or the best one."""
    name = choose(op, device, backend)
    if name == "reference":
        return call_reference(getattr(reference, op), device.type, *args)
    return form(op, name)(*args)


def form(op: str, backend: str) -> Callable[..., Any]:
    """Return the torch op that a fused backend runs."""
    found: Callable[..., Any] = getattr(torch.ops.rirn, f"triton_{op}" if backend == "triton" else op)
    return found


@functools.cache
def define_triton(op: str) -> None:
    """Define ``rirn::triton_<op>`` and its backward op on the kernels of ``rirn.kernels.<op>``.

    That module fills what is allocated here: ``forward(*results, *arguments)`` and ``backward(gradients,
    *gradients from above, *arguments)``, where a gradient that is not wanted is None.
    """
    kernels = importlib.import_module(f"rirn.kernels.{op}")
    glue = _glue[op]
    schema = torch.library.infer_schema(glue.fake, mutates_args=())
    arguments, _, results = schema.partition(") -> ")
    n_results = results.count("Tensor")
    grads_from_above = ", ".join(f"Tensor grad{i}" for i in range(n_results))

    def forward(*args: Any) -> Any:
        found = glue.fake(*args)
        outs = found if isinstance(found, tuple) else (found,)
        if outs[0].numel():
            kernels.forward(*outs, *args)
        return found

    def backward(*args: Any) -> list[Tensor]:
        *given, needs = args
        grads = _allocate_gradients(given[n_results:], needs)
        if given[0].numel():
            kernels.backward([g if is_wanted(needs, i) else None for i, g in enumerate(grads)], *given)
            return grads
        return [g.zero_() for g in grads]

    for name, signature, function in (
        (f"rirn::triton_{op}", schema, forward),
        (
            f"rirn::triton_{op}_backward",
            f"({grads_from_above}, {arguments[1:]}, SymInt needs) -> Tensor[]",
            backward,
        ),
    ):
        torch.library.define(name, signature, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(name, "CompositeExplicitAutograd", function)
    _attach(op, f"triton_{op}", glue)


def _through_activation(grad: Tensor, result: Tensor, slope: float) -> Tensor:
    """What is left of a gradient in front of the activation that made ``result``, as torch has it: a NaN is no closed ReLU."""
    through: Tensor
    if slope == 0:
        through = torch.ops.aten.threshold_backward(grad, result, 0)
    else:
        through = torch.ops.aten.leaky_relu_backward(grad, result, slope, True)
    return through


def _allocate_gradients(args: Sequence[Any], needs: int) -> list[Tensor]:
    return [
        torch.empty_like(t) if is_wanted(needs, i) else t.new_empty(0) for i, t in enumerate(tensors_of(args))
    ]


def _attach(op: str, name: str, glue: Glue) -> None:
    """Give the form ``rirn::<name>`` of an op and ``rirn::<name>_backward`` their fake kernels and batching rules, and the
    first its derivatives.

    The derivative is the op ``{name}_backward(*output gradients, *inputs, needs)``, which returns one gradient
    per tensor, an empty one where bit i of ``needs`` is not set. Nothing but the inputs is saved, the
    result of an op that ends in an activation, and what a chain holds.
    """
    gradient = getattr(torch.ops.rirn, f"{name}_backward").default
    n_results = len(getattr(torch.ops.rirn, name).default._schema.returns)
    returns_list = len(gradient._schema.returns) == 1

    def fake_backward(*args: Any) -> Any:
        *given, needs = args
        grads = _allocate_gradients(given[n_results:], needs)
        return grads if returns_list else tuple(grads)

    def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any, held: Tensor | None) -> None:
        ctx.slope = glue.last_slope(*inputs) if glue.last_slope else 1.0
        ctx.holds = held is not None and held.numel() > 0
        ctx.save_for_backward(
            *tensors_of(inputs), *([output] if ctx.slope != 1 else []), *([held] if ctx.holds else [])
        )
        ctx.options = [None if isinstance(arg, Tensor) or is_tensor_list(arg) else arg for arg in inputs]
        ctx.counts = [len(arg) if is_tensor_list(arg) else None for arg in inputs]

    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        args: list[Any] = []
        for option, count in zip(ctx.options, ctx.counts, strict=True):
            if count is not None:
                args.append(list(itertools.islice(saved, count)))
            else:
                args.append(next(saved) if option is None else option)
        if ctx.slope != 1:
            grads = (_through_activation(grads[0], next(saved), ctx.slope),)
        needs = needs_mask(ctx.needs_input_grad[-len(list(tensors_of(args))) :])
        if ctx.holds:
            assert glue.as_chain is not None
            found = torch.ops.rirn.conv3x3_chain_held_backward(
                *grads, next(saved), *glue.as_chain(*args), needs
            )
        else:
            found = gradient(*grads, *args, needs)
        return tuple(g if is_wanted(needs, i) else None for i, g in enumerate(found))

    def holding(*args: Any) -> tuple[Any, Tensor]:
        assert glue.as_chain is not None
        found: tuple[Any, Tensor] = torch.ops.rirn.conv3x3_chain_holding(*glue.as_chain(*args), most_held())
        return found

    def forward_mode(*args: Any) -> Any:
        device = next(tensors_of(args)).device
        return call_reference(getattr(reference, op), device.type, *args)

    torch.library.register_fake(f"rirn::{name}", glue.fake)
    torch.library.register_fake(f"rirn::{name}_backward", fake_backward)
    register_derivatives(
        name, save_inputs, backward, forward_mode, holding if glue.as_chain and name == op else None
    )
    once = (
        f"{name} on a fused backend can be differentiated once only: "
        "run it with backend='reference' where you need create_graph=True or a derivative of a gradient"
    )
    refuse_derivatives(f"{name}_backward", once)
    if name == "conv3x3_chain":
        refuse_derivatives("conv3x3_chain_holding", "conv3x3_chain_holding has no derivative: call conv3x3_chain")
        refuse_derivatives("conv3x3_chain_held_backward", once)
    register_batching(name, glue.images)
    register_batching(f"{name}_backward", n_results + glue.images, n_results)
