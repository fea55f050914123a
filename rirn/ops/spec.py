"""The one description of an op, :class:`Op`. The lists of ops are collected from these."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(eq=False)
class Op:
    """An op, as all its forms, tests and benchmarks see it.

    Attributes:
        name: of the public function, of the torch op ``rirn::<name>`` and of its files.
        reference: the op in plain PyTorch. Its annotated arguments are the schema of the op.
        rules: takes the same arguments and raises ValueError with one sentence if they do not fit.
        like: the argument whose shape, dtype and memory format the results have.
        images: number of arguments, from the front, that have the batch in dimension 0.
        example: arguments for features [N, C, H, W] as a function of N, C, H and W, with shapes in place of tensors.
        one_for_all: positions of images that may have one channel for all.
        fake: allocates the results, if these are not as ``like`` says.
        last_slope: for an op that ends in an activation, its slope below zero, as a function of the arguments;
            the backward op then gets the gradient before the activation.
        as_chain: for an op that is a chain of convolutions on the CPU, its arguments as those of ``conv3x3_chain``,
            which can hold activations for the backward pass; see :mod:`rirn.ops.held`.
        width: for an op that ``auto`` leaves to torch on a GPU when it is wide, the channels that count, as a function of
            the arguments; see :mod:`rirn.ops.tuning`.
        library: what runs instead of the reference when a call is left to torch: its convolutions in the given
            dtype.
        left_to_library: ``left_to_library(backend, *arguments)`` says why ``auto`` leaves a call to the reference although
            the backend could run it, or returns None.
        left_in_words: descriptions of those calls by type of device, for :mod:`rirn.doctor`.
        triton: the file of the Triton kernels, and what these take for the arguments; None where the file has the op's
            name and the kernels take its arguments.
        channels: C in the published networks, for benchmarks.
        operations: arithmetic operations per element of the result, counting a sigmoid or tanh as one, for an op without
            convolutions, which is bound by memory.
    """

    name: str
    reference: Callable[..., Any]
    rules: Callable[..., None]
    images: int
    example: Callable[[int, int, int, int], Sequence[Any]]
    like: str = ""
    one_for_all: tuple[int, ...] = ()
    fake: Callable[..., Any] | None = None
    last_slope: Callable[..., float] | None = None
    as_chain: Callable[..., Sequence[Any]] | None = None
    width: Callable[..., int] | None = None
    library: Callable[..., Any] | None = None
    left_to_library: Callable[..., str | None] | None = None
    left_in_words: Mapping[str, str] = field(default_factory=dict)
    triton: tuple[str, Callable[..., Sequence[Any]]] | None = None
    channels: tuple[int, ...] = ()
    operations: int | None = None

    def __post_init__(self) -> None:
        self.kinds = tuple(str(p.annotation) for p in self.signature.parameters.values())
        if self.fake is None:
            at, results = list(self.signature.parameters).index(self.like), self.results

            def fake(*args: Any) -> Any:
                made = tuple(torch.empty_like(args[at]) for _ in range(results))
                return made[0] if results == 1 else made

            self.fake = fake

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """Signature of the reference and of the torch op."""
        return inspect.signature(self.reference)

    @property
    def results(self) -> int:
        """Number of tensors that the op returns."""
        return str(self.signature.return_annotation).count("Tensor")

    @property
    def schema(self) -> str:
        """``(arguments) -> results`` as torch writes it."""
        return re.sub(r"=[^,)]+", "", torch.library.infer_schema(self.reference, mutates_args=()))

    def arguments(self, n: int, c: int, h: int, w: int, make: Callable[[Shape, bool], Tensor]) -> list[Any]:
        """The example with tensors, each made by ``make`` from a shape and whether it is one of the images."""

        def filled(part: Any, is_image: bool) -> Any:
            if isinstance(part, tuple):
                return make(part, is_image)
            return [filled(p, is_image) for p in part] if isinstance(part, list) else part

        return [filled(part, i < self.images) for i, part in enumerate(self.example(n, c, h, w))]


OPS: dict[str, Op] = {}
"""All ops of :mod:`rirn.ops`, by name; each registers itself."""

INFERENCE_OPS: list[str] = []
"""Ops of the compiled library without a derivative, which modules use in place of several of the above where they can."""
