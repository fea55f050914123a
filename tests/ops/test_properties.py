"""Whatever an op is given, it returns what the reference returns, or raises one clear error.

Hypothesis draws the calls: sizes from zero up, dtypes, memory layouts (steps, gaps, offsets, stride 0, rows that overlap), one
tensor as two inputs, gates far in saturation, which gradients are wanted; and arguments that do not fit. The quick suite tries
the same few calls each time; ``make fuzz`` tries more, other ones with another ``--hypothesis-seed``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, note, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from rirn import ops
from rirn.errors import RirnError
from rirn.ops.spec import OPS
from tests.ops.calls import arguments, reference
from tests.ops.cases import Case
from tests.ops.contract import as_tuple
from tests.ops.kinks import Kinks
from tests.tolerances import DTYPES, TABLE, errors, row_of

# The number of calls for each op; unset, few and always the same.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
FOUND = settings(
    max_examples=int(EXAMPLES or 8),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

REFUSALS = (ValueError, RirnError)
"""What a public function raises for arguments that do not fit."""

RAW_REFUSALS = (RuntimeError, TypeError, ValueError)
"""The same for an op of the library, called past the public function; NotImplementedError is a RuntimeError."""

GATED = [name for name, op in OPS.items() if op.operations and name != "fac"]
"""Ops whose gradients hold the derivative of a gate times the number gated. One minus an open gate is off by the rounding of one,
and its product with 30 or 100 by that much more, however small it is: here and in PyTorch alike."""


@dataclass(frozen=True)
class Form:
    """Shapes of the tensors of an op, and how to call it and its reference with them in one flat list."""

    shapes: list[tuple[int, ...]]
    function: Callable[..., Any]
    reference: Callable[..., Tensor | tuple[Tensor, ...]]

    def run(self, tensors: Sequence[Tensor], backend: str) -> tuple[Tensor, ...]:
        return as_tuple(self.function(tensors, backend))

    def truth(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return as_tuple(self.reference(tensors))


def _pointwise(op: str, n: int, c: int, h: int, w: int, draw: st.DrawFn) -> Form:
    shapes = list(OPS[op].example(n, c, h, w))
    for at in OPS[op].one_for_all:
        shapes[at] = (n, draw(st.sampled_from((c, 1))), h, w)
    return Form(
        shapes,
        lambda t, backend: getattr(ops, op)(*t, backend=backend),
        lambda t: getattr(reference, op)(*t),
    )


def _atb(op: str, n: int, c: int, h: int, w: int, draw: st.DrawFn) -> Form:
    gates = [(n, draw(st.sampled_from((c, 1))), h, w) for _ in range(2)]
    most = draw(st.sampled_from((1.0, 2.0, 0.5)))
    return Form(
        [(n, c, h, w)] * 2 + gates,
        lambda t, backend: ops.atb_blend(*t, max_weight=most, backend=backend),
        lambda t: reference.atb_blend(*t, most),
    )


def _irm(op: str, n: int, c: int, h: int, w: int, draw: st.DrawFn) -> Form:
    outs = [2 * c] * 5 + [c]
    weights, biases = [(o, 2 * c, 3, 3) for o in outs], [(o,) for o in outs]
    return Form(
        [(n, c, h, w)] * 2 + weights + biases,
        lambda t, backend: ops.irm_update(*t[:2], t[2:8], t[8:], backend=backend),
        lambda t: reference.irm_update(*t[:2], t[2:8], t[8:]),
    )


def _chain(op: str, n: int, c: int, h: int, w: int, draw: st.DrawFn) -> Form:
    unshuffle, shuffle = draw(st.booleans()), draw(st.booleans())
    if unshuffle:
        h, w = h - h % 2, w - w % 2
    extra = draw(st.sampled_from(((), (3,), (1, 2))))
    c = c if c or extra else 1  # no channels at all are refused
    channels = [(c + sum(extra)) * (4 if unshuffle else 1)]
    slopes, skips = [], []
    for layer in range(draw(st.integers(1, 3))):
        skip = layer > 0 and draw(st.booleans())
        width = channels[-2] if skip else draw(st.sampled_from((4, 1, 3, 8, 17)))
        channels.append(width)
        slopes.append(draw(st.sampled_from((1.0, 0.0, 0.2))))
        skips.append(skip)
    if shuffle and channels[-1] % 4:
        shuffle = False
    images = [(n, k, h, w) for k in (c, *extra)]
    weights = [(o, i, 3, 3) for i, o in itertools.pairwise(channels)]
    biases = [(o,) for o in channels[1:]]
    k, layers = len(images), len(weights)

    def split(t: Sequence[Tensor]) -> tuple[Sequence[Tensor], ...]:
        return t[:k], t[k : k + layers], t[k + layers :]

    return Form(
        images + weights + biases,
        lambda t, backend: ops.conv3x3_chain(
            *split(t), slopes, skips, unshuffle=unshuffle, shuffle=shuffle, backend=backend
        ),
        lambda t: reference.conv3x3_chain(*split(t), slopes, skips, unshuffle, shuffle),
    )


MAKERS = {"atb_blend": _atb, "irm_update": _irm, "conv3x3_chain": _chain}


@st.composite
def forms(draw: st.DrawFn, op: str) -> Form:
    """An op with sizes, most of them small, some of them zero, some wider than a register."""
    n = draw(st.sampled_from((1, 2, 0, 3)))
    c = draw(st.sampled_from((2, 1, 5, 0, 17)))
    h, w = draw(st.sampled_from((3, 1, 0, 6))), draw(st.sampled_from((5, 1, 0, 40)))
    return MAKERS.get(op, _pointwise)(op, n, c, h, w, draw)


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[list[int], int, int]:
    """Strides, offset and size of the storage of a tensor of this shape."""
    order = draw(st.permutations(range(len(shape))))
    kind = draw(st.sampled_from(("dense", "gaps", "expanded", "overlapping")))
    strides, step = [0] * len(shape), draw(st.sampled_from((1, 2))) if kind == "gaps" else 1
    for d in order:
        strides[d] = step
        if kind == "overlapping":  # rows share elements, as those of unfold do
            step += draw(st.integers(0, 1)) * max(1, shape[d] // 2)
        else:
            step *= max(1, shape[d]) + (draw(st.integers(0, 1)) if kind == "gaps" else 0)
    if kind == "expanded":
        strides = [0 if draw(st.booleans()) else s for s in strides]
    offset = draw(st.integers(0, 3))
    reach = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size)
    return strides, offset, offset + reach + 1 + draw(st.integers(0, 2))


@st.composite
def tensors_of(draw: st.DrawFn, form: Form, dtype: torch.dtype) -> tuple[list[Tensor], list[int]]:
    """Leaves, and which of them stands at each place; what no leaf covers of a storage is NaN."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    leaves: list[Tensor] = []
    places: list[int] = []
    for shape in form.shapes:
        same = [i for i, leaf in enumerate(leaves) if leaf.shape == shape]
        if same and draw(st.integers(0, 5)) == 0:
            places.append(draw(st.sampled_from(same)))
            continue
        strides, offset, size = draw(layouts(shape))
        fan_in = shape[1] * 9 if shape[2:] == (3, 3) else 1  # weights: activations stay of order one
        scale = draw(st.sampled_from((1.0, 0.0, 30.0))) if fan_in == 1 else max(fan_in, 1) ** -0.5
        storage = torch.full((size,), torch.nan, dtype=dtype)
        view = storage.as_strided(shape, strides, offset)
        if view.numel():
            values = (scale * torch.randn(size, generator=generator, dtype=torch.float64)).to(dtype)
            reached = torch.zeros(size, dtype=torch.bool)
            reached.as_strided(shape, strides, offset).fill_(True)
            storage.copy_(torch.where(reached, values, torch.nan))
        leaves.append(view.detach().requires_grad_(draw(st.integers(0, 4)) > 0))
        places.append(len(leaves) - 1)
    return leaves, places


def at(places: Sequence[int], leaves: Sequence[Tensor]) -> list[Tensor]:
    return [leaves[i] for i in places]


def check_refusal(error: Exception) -> None:
    """A refusal is one line that says something."""
    message = str(error)
    assert message.strip() and len(message.splitlines()) == 1, f"not one clear sentence: {message!r}"


@pytest.mark.parametrize("op", OPS)
@FOUND
@given(data=st.data())
def test_a_call_equals_the_reference(op: str, data: st.DataObject) -> None:
    form = data.draw(forms(op))
    name = data.draw(st.sampled_from(tuple(DTYPES)))
    leaves, places = data.draw(tensors_of(form, DTYPES[name]))
    backend = data.draw(st.sampled_from(("cpu", "auto")))
    note(
        f"{name} on {backend}: {[(tuple(t.shape), t.stride(), t.storage_offset()) for t in leaves]}, {places}"
    )
    wide = [t.detach().double().contiguous().requires_grad_(t.requires_grad) for t in leaves]
    tolerance_row = row_of(op, backend, name)
    if op == "conv3x3_chain" and (name == "fp64" or (backend == "auto" and name in ("fp16", "bf16"))):
        tolerance_row = "irm_update" if name == "fp64" else "conv3x3_per_layer"
    # The kernels that round half precision once compute in float32 until then.
    inside = "fp32" if name in ("fp16", "bf16") and tolerance_row == op else name
    kinks = Kinks(TABLE[tolerance_row, "output", inside].max_seen)
    try:
        with kinks:
            want = form.truth(at(places, wide))
    except RuntimeError:  # the library has no such convolution or padding of nothing
        try:
            outs = form.run(at(places, leaves), backend)
        except (*REFUSALS, RuntimeError) as error:
            assert str(error)
        else:
            assert all(out.numel() == 0 for out in outs)
        return
    outs = form.run(at(places, leaves), backend)
    scale = max((t.abs().max().item() for t in wide if t.numel()), default=1.0) if op in GATED else 1.0
    for out, expected in zip(outs, want, strict=True):
        assert out.dtype == DTYPES[name] and out.shape == expected.shape
        compare(out, expected, tolerance_row, "output", name, scale)
    wanted = [i for i, leaf in enumerate(leaves) if leaf.requires_grad and i in places]
    if not wanted:
        assert not any(out.requires_grad for out in outs)
        return
    grads = [torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype) for out in outs]
    found = torch.autograd.grad(outs, [leaves[i] for i in wanted], grads)
    if kinks.found:  # of several right gradients
        event("a gradient at a kink, not compared")
        return
    truths = torch.autograd.grad(want, [wide[i] for i in wanted], [g.double() for g in grads])
    for i, got, expected in zip(wanted, found, truths, strict=True):
        compare(got, expected, tolerance_row, "gradient", name, scale, sums=places.count(i))


def compare(got: Tensor, truth: Tensor, row: str, kind: str, dtype: str, scale: float, sums: int = 1) -> None:
    """No element further from the truth than the table allows, relative to the largest of the truth or to ``scale``: single
    numbers may be what is left of a cancelled sum, and of so few the root mean square says nothing.

    A tensor that stands at several places gets its gradient in ``sums`` parts, each rounded, and so is what they add up to.
    What float16 has no number for is left out.
    """
    largest = torch.finfo(DTYPES[dtype]).max
    representable = truth.abs() <= largest / 2
    terms = truth.abs().clamp(min(max(1.0, scale), largest / 2), largest / 2) if truth.numel() else None
    got, truth = (torch.where(representable, t.double(), 0.0) for t in (got.detach(), truth.detach()))
    worst, _ = errors(got, truth, terms)
    limit = TABLE[row, kind, dtype].max * (1 if sums == 1 else sums + 1)
    assert worst <= limit, f"{kind}: error {worst:.3g} is over {limit:.3g}"


UNFIT: dict[str, Callable[[Tensor], Tensor]] = {
    "int32": lambda t: t.to(torch.int32),
    "bool": lambda t: t.bool(),
    "complex64": lambda t: t.to(torch.complex64),
    "float8": lambda t: t.to(torch.float8_e5m2),
    "another float": lambda t: t.to(torch.float64 if t.dtype != torch.float64 else torch.float32),
    "meta": lambda t: t.to("meta"),
    "one dimension more": lambda t: t[None],
    "flat": lambda t: t.flatten() if t.dim() != 1 else t[:, None],
    "longer": lambda t: torch.cat([t, t], -1) if t.dim() and t.shape[-1] else t.new_zeros(*t.shape[:-1], 7),
    "a channel more": lambda t: torch.cat([t, t[:, :1]], 1) if t.dim() > 1 else t.new_zeros(2, 2),
    "sparse": lambda t: t.to_sparse() if t.dim() else t[None].to_sparse(),
    "sparse rows": lambda t: (
        t.flatten(1).to_sparse_csr() if t.dim() > 1 else t.new_zeros(2, 2).to_sparse_csr()
    ),
}


@pytest.mark.parametrize("op", OPS)
@FOUND
@given(data=st.data())
def test_what_does_not_fit_is_refused_in_one_sentence(op: str, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(0)
    maker = MAKERS.get(op, _pointwise)
    form = data.draw(st.composite(lambda draw: maker(op, 2, 3, 4, 6, draw))())
    tensors = [torch.randn(shape, generator=generator) for shape in form.shapes]
    i = data.draw(st.integers(0, len(tensors) - 1))
    kind = data.draw(st.sampled_from(tuple(UNFIT)))
    backend = data.draw(st.sampled_from(("cpu", "reference", "auto")))
    note(f"input {i} {kind} on {backend}")
    alone = op == "conv3x3_chain" and [shape[2:] for shape in form.shapes].count((4, 6)) == 1
    assume(not (alone and i == 0 and kind == "longer"))  # an image of another width fits as well
    tensors[i] = UNFIT[kind](tensors[i])
    with pytest.raises(REFUSALS) as refused:
        form.run(tensors, backend)
    check_refusal(refused.value)


@pytest.mark.parametrize("backward", (False, True), ids=("forward", "backward"))
@pytest.mark.parametrize("op", OPS)
@FOUND
@given(data=st.data())
def test_the_library_survives_what_does_not_fit(op: str, backward: bool, data: st.DataObject) -> None:
    """Past the public function, whose checks a program in C++ or a traced one does not pass through."""
    case = Case(2, 3, 4, 6)
    leaves, spec = tree_flatten(arguments(op, case, backward=backward))
    where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    for i in data.draw(st.lists(st.sampled_from(where), min_size=0, max_size=2, unique=True)):
        kind = data.draw(st.sampled_from(tuple(UNFIT)))
        note(f"tensor {i} {kind}")
        leaves[i] = UNFIT[kind](leaves[i])
    args = tree_unflatten(leaves, spec)
    if backward:
        args[-1] = data.draw(st.sampled_from((args[-1], 0, -1, 1, 2**62, -(2**63))))
    run = getattr(torch.ops.rirn, f"{op}_backward" if backward else op)
    try:
        found = run(*args)
    except RAW_REFUSALS as error:
        assert str(error)
        return
    for out in as_tuple(found) if not isinstance(found, list) else found:
        assert isinstance(out, Tensor)
        if out.device.type == "cpu":
            out.double().sum().item()  # reads all of it
