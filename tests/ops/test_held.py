"""Activations held for the backward pass of convolution chains on the CPU: the same gradients, within the memory allowed."""

import pytest
import torch
from torch import Tensor

from rirn.errors import RirnError
from rirn.measure.memory import saved_bytes
from rirn.ops import conv3x3_chain, hold_activations, use_backend
from rirn.ops._library import library
from tests.ops.cases import Case
from tests.ops.test_conv3x3_chain import BLOCKS, CHAINS, DOWN, UP, UPDATE
from tests.ops.test_irm_update import IRM

pytestmark = pytest.mark.skipif(not library().loaded, reason=str(library().reason))
SHAPES = [
    Case(1, 0, 10, 70, "fp32", "contiguous"),
    Case(3, 0, 12, 18, "fp32", "channels_last"),  # images side by side
    Case(5, 0, 34, 36, "fp32", "contiguous"),  # in several groups
    Case(5, 0, 8, 64, "fp32", "contiguous"),  # the last group is narrower, and its row ends with a register
    Case(2, 0, 8, 6, "bf16", "contiguous"),
]
A_LOT = 1 << 30


def run(chain, tensors):
    images, weights, biases = tensors
    with use_backend("cpu"):
        return conv3x3_chain(images, weights, biases, chain.slopes, chain.skips, **chain.shuffles)


def gradients(chain, case, most, wanted=None):
    tensors = chain.inputs(case)
    flat = [t for part in tensors for t in part]
    for i, t in enumerate(flat):
        t.requires_grad_(wanted is None or i in wanted)
    with hold_activations(most):
        out = run(chain, tensors)
        weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        out.backward(weight)
    return out.detach(), [t.grad for t in flat]


def assert_same_bits(found, expected):
    assert torch.equal(found[0], expected[0])
    for a, b in zip(found[1], expected[1], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("case", SHAPES, ids=str)
@pytest.mark.parametrize("chain", [*CHAINS, DOWN, UP], ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_gradients_are_those_of_images_computed_again(chain, case, count, threads):
    threads(count)
    assert_same_bits(gradients(chain, case, A_LOT), gradients(chain, case, 0))


@pytest.mark.parametrize(
    "wanted", [{0}, {1}, {4}, {8}], ids=["image", "first weight", "last weight", "last bias"]
)
def test_single_gradients(wanted):
    case = SHAPES[1]
    assert_same_bits(gradients(BLOCKS, case, A_LOT, wanted), gradients(BLOCKS, case, 0, wanted))


def test_memory_is_held_once_and_for_as_long_as_the_graph():
    tensors = UPDATE.inputs(SHAPES[2])
    for weight in tensors[1]:
        weight.requires_grad_()

    def saved(most):
        with hold_activations(most):
            return saved_bytes(lambda: run(UPDATE, tensors), [])

    bare, held = saved(0), saved(A_LOT)
    images = 4 * 5 * 34 * 36 * (10 + 4 + 4 + 4)  # bytes of what four layers read
    assert images < held - bare < 6 * images  # the rows have a border
    assert saved(held - bare) == held and saved(held - bare - 1) == bare
    with hold_activations(held - bare):
        first = run(UPDATE, tensors)
        both = saved_bytes(lambda: run(UPDATE, tensors), [])  # there is no room for a second
        del first
        assert both == bare and saved(held - bare) == held


def test_memory_serves_again_and_its_border_is_still_zero():
    """A pass through memory that another one has used, for another chain of the same shape."""
    for chain in (BLOCKS, UPDATE, BLOCKS):
        for case in SHAPES:
            assert_same_bits(gradients(chain, case, A_LOT), gradients(chain, case, 0))


def test_a_graph_can_be_used_twice_and_its_tensors_may_move():
    expected = gradients(BLOCKS, SHAPES[1], 0)[1]
    tensors = BLOCKS.inputs(SHAPES[1])
    flat = [t.requires_grad_() for part in tensors for t in part]

    def moved(t):
        """The same numbers at an address that no register can be loaded from."""
        return torch.empty(t.numel() + 1, dtype=t.dtype)[1:].view(t.shape).copy_(t) if t.dim() == 1 else t

    for unpack in (lambda t: t, moved):
        with hold_activations(A_LOT), torch.autograd.graph.saved_tensors_hooks(Tensor.detach, unpack):
            out = run(BLOCKS, tensors)
        weight = torch.linspace(-1, 1, out.numel()).view_as(out)
        for _ in range(2):
            found = torch.autograd.grad(out, flat, weight, retain_graph=True)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ["short", "half", "strided"])
def test_what_was_not_held_for_these_arguments_is_refused(kind):
    images, weights, biases = BLOCKS.inputs(SHAPES[1])
    rest = images, weights, biases, list(BLOCKS.slopes), [int(s) for s in BLOCKS.skips], False, False
    out, held = torch.ops.rirn.conv3x3_chain_holding(*rest, A_LOT, False)
    wrong = {
        "short": held[:-1],
        "half": held.half(),
        "strided": torch.zeros(2 * held.numel())[::2],
    }[kind]
    with pytest.raises(
        RuntimeError, match="held must be what conv3x3_chain_holding returned for these arguments"
    ):
        torch.ops.rirn.conv3x3_chain_held_backward(torch.ones_like(out), wrong, *rest, 1, False)


def test_the_inner_recurrence_holds_too():
    found = []
    for most in (0, A_LOT):
        flat = IRM.make(Case(2, 6, 17, 40))
        with hold_activations(most):
            out = IRM.function(*flat, backend="cpu")
            found.append(torch.autograd.grad(out.square().sum(), flat))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_trace_holds_nothing():
    tensors = BLOCKS.inputs(SHAPES[1])
    for weight in tensors[1]:
        weight.requires_grad_()
    compiled = torch.compile(lambda: run(BLOCKS, tensors), fullgraph=True, backend="aot_eager")
    with hold_activations(A_LOT):
        assert torch.equal(compiled(), run(BLOCKS, tensors))


def test_a_negative_bound_is_refused():
    with (
        pytest.raises(RirnError, match="the bytes to hold must be 0 or more, or None; got -1"),
        hold_activations(-1),
    ):
        pass
