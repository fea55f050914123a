"""Triton's interpreter made trustworthy, so that kernels can be judged on a machine without a GPU.

The interpreter runs kernels on CPU tensors, program after program, in NumPy. As it comes it computes with the bit
patterns of bfloat16, truncates where a GPU rounds, lets stray accesses corrupt the heap, and hides races, since
its programs run one at a time. :func:`install` changes that, for the whole process:

* float32 becomes bfloat16 by rounding to nearest even, ``tl.dot`` widens bfloat16, other arithmetic on it raises;
* every active lane of every load and store must lie inside a tensor that was passed to the launch;
* two programs that write one address, or one that reads what another writes, are an error.

It takes ``TRITON_INTERPRET=1`` in the environment before Triton is imported. What it cannot show: rounding of
``ex2.approx`` and of tensor cores, races inside a program, speed.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter


class LabError(AssertionError):
    """A kernel did what no kernel may do."""


NOBODY, SEVERAL = -1, -2


class _Memory:
    """The bytes of one tensor during a launch, and which program touched which element."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        extent = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
        self.name, self.start, self.size = name, tensor.data_ptr(), tensor.element_size()
        self.end = self.start + extent * self.size
        self.writer = np.full(extent, NOBODY)
        self.reader = np.full(extent, NOBODY)
        self.scratch = np.empty(extent, np.int64)

    def touch(self, kind: str, addresses: np.ndarray, program: int) -> None:
        at = (addresses - self.start) // self.size
        if kind == "load":
            self._refuse(self.writer[at], program, "reads {} which program {} writes")
            before = self.reader[at]
            self.reader[at] = np.where((before == NOBODY) | (before == program), program, SEVERAL)
            return
        lanes = np.arange(at.size)
        self.scratch[at] = lanes
        if (self.scratch[at] != lanes).any():
            raise LabError(f"one store in program {program} writes an element of {self.name} twice")
        self._refuse(self.writer[at], program, "writes {} where program {} writes")
        self._refuse(self.reader[at], program, "writes {} which program {} reads")
        self.writer[at] = program

    def _refuse(self, owners: np.ndarray, program: int, what: str) -> None:
        others = owners[(owners != NOBODY) & (owners != program)]
        if others.size:
            other = "several" if others[0] == SEVERAL else others[0]
            raise LabError(f"a race: program {program} {what.format(self.name, other)}")


_tensors: list[_Memory] = []  # those of the launch under way, by address
_starts = np.empty(0, np.int64)


def _to_float32(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def _program() -> int:
    (x, y, z), (_, ny, nz) = (
        interpreter.interpreter_builder.grid_idx,
        interpreter.interpreter_builder.grid_dim,
    )
    return (x * ny + y) * nz + z


def _record(kind: str, pointers: Any, mask: Any) -> None:
    """Check the lanes of one access against the tensors of the launch, and remember them."""
    size = interpreter._get_np_dtype(pointers.get_element_ty()).itemsize
    addresses = np.asarray(pointers.data).astype(np.int64)
    active = addresses[np.broadcast_to(mask.data, addresses.shape)]
    if active.size == 0:
        return
    slots = np.searchsorted(_starts, active, side="right") - 1
    for slot in range(slots.min(), slots.max() + 1):
        mine = active[slots == slot]
        outside = mine if slot < 0 else mine[mine + size > _tensors[slot].end]
        if outside.size:
            raise LabError(
                f"out of bounds: {outside.size} lanes of a {kind} in program {_program()} touch no tensor"
            )
        if mine.size:
            _tensors[slot].touch(kind, mine, _program())


def _set_tensors(named: list[tuple[str, Any]]) -> None:
    global _tensors, _starts
    found: dict[int, _Memory] = {}
    for name, tensor in named:
        if isinstance(tensor, torch.Tensor) and tensor.numel() and tensor.data_ptr() not in found:
            found[tensor.data_ptr()] = _Memory(name, tensor)
    _tensors = [found[start] for start in sorted(found)]
    _starts = np.array(sorted(found), np.int64)


def install() -> None:
    """Repair the interpreter of this process; a second call changes nothing.

    Raises:
        RuntimeError: Triton was not told to interpret.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("set TRITON_INTERPRET=1 before Triton is imported")
    builder = interpreter.InterpreterBuilder
    if getattr(builder, "repaired", False):
        return
    builder.repaired = True
    handle = interpreter.TensorHandle
    original = {name: getattr(builder, name) for name in ("cast_impl", "create_dot", "binary_op", "unary_op")}
    load, store = builder.create_masked_load, builder.create_masked_store
    initialise, execute = interpreter.GridExecutor._init_args_hst, interpreter.GridExecutor.__call__

    def cast_impl(self, source, to):
        old, new = source.dtype.scalar, to.scalar
        if (old, new) == (tl.float32, tl.bfloat16):
            return handle(_to_bfloat16(source.data), new)
        if (old, new) == (tl.bfloat16, tl.float32):
            return handle(_to_float32(source.data), new)
        return original["cast_impl"](self, source, to)

    def create_dot(self, a, b, *rest):
        if a.dtype.scalar == tl.bfloat16:
            a, b = (handle(_to_float32(t.data), tl.float32) for t in (a, b))
        return original["create_dot"](self, a, b, *rest)

    def refuse(*operands):
        if any(t.dtype.scalar == tl.bfloat16 for t in operands):
            raise LabError("arithmetic on bfloat16 would work on bit patterns here: cast to float32 first")

    def binary_op(self, a, b, function):
        refuse(a, b)
        return original["binary_op"](self, a, b, function)

    def unary_op(self, a, function):
        refuse(a)
        return original["unary_op"](self, a, function)

    def checked_sum(self, input):
        refuse(input.handle)
        return original_sum(self, input)

    def create_masked_load(self, pointers, mask, *rest):
        _record("load", pointers, mask)
        return load(self, pointers, mask, *rest)

    def create_masked_store(self, pointers, value, mask, *rest):
        _record("store", pointers, mask)
        return store(self, pointers, value, mask, *rest)

    def no_atomics(self, *args):
        raise LabError("an atomic operation: the kernels of rirn repeat bit for bit and use none")

    def init_args(self, args, kwargs):
        on_host, kwargs_on_host = initialise(self, args, kwargs)
        _set_tensors([*zip(self.arg_names, on_host, strict=False), *kwargs_on_host.items()])
        return on_host, kwargs_on_host

    def run_grid(self, *args, **kwargs):
        with np.errstate(all="ignore"):  # overflow to infinity is what a GPU does too, without a word
            execute(self, *args, **kwargs)

    def call_device_function(self, *args, **kwargs):
        # The stock version patches Triton's language anew at every call, which takes most of the time. What a
        # kernel sees, the launch has patched; what Triton's own library functions see stays patched.
        if self.fn.__module__.startswith("triton.") and self.fn not in patched:
            interpreter._patch_lang(self.fn)
            patched.add(self.fn)
        return self.rewrite()(*args, **kwargs)

    def patch_tensor(tensor, scope):
        # Triton before 3.8 takes an array of one element for a number, which NumPy from 2.4 on refuses.
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    patch, interpreter._patch_lang_tensor = interpreter._patch_lang_tensor, patch_tensor
    patched = set()
    original_sum, interpreter.ReduceOps.sum = interpreter.ReduceOps.sum, checked_sum
    builder.cast_impl, builder.create_dot = cast_impl, create_dot
    builder.binary_op, builder.unary_op = binary_op, unary_op
    builder.create_masked_load, builder.create_masked_store = create_masked_load, create_masked_store
    builder.create_atomic_rmw = builder.create_atomic_cas = no_atomics
    interpreter.GridExecutor._init_args_hst, interpreter.GridExecutor.__call__ = init_args, run_grid
    interpreter.InterpretedFunction.__call__ = call_device_function
