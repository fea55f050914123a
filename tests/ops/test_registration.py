"""What the torch ops promise to the dispatcher: schemas, fake kernels, autograd (torch.library.opcheck); and that they stay
within their tensors whoever calls them."""

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from rirn.ops._library import library
from rirn.ops.spec import OPS
from tests.ops.calls import arguments
from tests.ops.cases import Case

pytestmark = pytest.mark.skipif(not library().loaded, reason=str(library().reason))

CASES = [
    Case(2, 3, 4, 5),
    Case(1, 3, 4, 5, "bf16", "channels_last", "11"),
    Case(2, 3, 4, 5, "fp64", "strided", "C1", 1.5),
    Case(1, 1, 1, 1),
]
each_op = pytest.mark.parametrize("op", OPS)
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def torch_op(name):
    return getattr(torch.ops.rirn, name).default


@each_op
def test_the_compiled_schema_is_that_of_the_description(op):
    assert str(torch_op(op)._schema) == f"rirn::{op}{OPS[op].schema}".replace("SymInt", "int")


@each_op
@each_case
def test_forward(op, case):
    args = arguments(op, case)
    torch.library.opcheck(torch_op(op), tuple(args))
    torch.library.opcheck(torch_op(op), tuple(tree_map_only(Tensor, Tensor.requires_grad_, args)))


@pytest.mark.parametrize("wanted", ["some", "all"])
@each_op
@pytest.mark.parametrize("case", CASES[1:3], ids=str)
def test_backward(op, case, wanted):
    *args, everything = arguments(op, case, backward=True)
    output_mask = {"some": everything & 0b10_0000_0100_0010, "all": everything}[wanted]
    torch.library.opcheck(torch_op(f"{op}_backward"), (*args, output_mask))


@each_op
def test_unwanted_gradients_are_empty(op):
    *args, _ = arguments(op, Case(2, 3, 4, 5), backward=True)
    tensors = [t for t in tree_flatten(args)[0] if isinstance(t, Tensor)][OPS[op].results :]
    found = torch_op(f"{op}_backward")(*args, 0b10)
    assert [g.numel() for g in found] == [t.numel() if i == 1 else 0 for i, t in enumerate(tensors)]


def test_meta_tensors_give_shapes():
    args = arguments("atb_blend", Case(2, 3, 4, 5, layout="channels_last"), "meta")
    out = torch.ops.rirn.atb_blend(*args)
    assert out.shape == (2, 3, 4, 5)
    assert out.is_contiguous(memory_format=torch.channels_last)


UNFIT = {
    "shorter": lambda t: t[..., :-1] if t.dim() else t[None, None],
    "another dtype": Tensor.half,
    "not float": Tensor.int,
    "flat": lambda t: t.flatten() if t.dim() != 1 else t[:, None],
}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("kind", UNFIT)
@each_op
def test_the_compiled_ops_check_for_themselves(op, kind, backward):
    """Whoever calls them past the public functions must not read or write beyond a tensor."""
    name = f"{op}_backward" if backward else op
    leaves, spec = tree_flatten(arguments(op, Case(1, 2, 3, 3), backward=backward))
    another_size = (op, kind, backward) == ("conv3x3_chain", "shorter", False)  # of the only image: no misfit
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and not (another_size and i == 0):
            args = tree_unflatten([*leaves[:i], UNFIT[kind](leaf), *leaves[i + 1 :]], spec)
            with pytest.raises(RuntimeError, match=r"^\S+ must be .* on cpu; got|\[N, C, H, W\]; got"):
                torch_op(name)(*args)


def test_the_chain_checks_its_counts():
    images, weights, biases, slopes, skips, *shuffles = arguments("conv3x3_chain", Case(1, 2, 3, 3))
    for args, message in (
        (([], weights, biases, slopes, skips), "at least one input"),
        ((images, [], [], [], []), "one layer"),
        ((images, weights, biases[:1], slopes, skips), "one for each of 2 weights"),
        ((images, weights, biases, slopes[:1], skips), "one for each of 2 weights"),
        ((images, weights, biases, slopes, skips[:1]), "one for each of 2 weights"),
        ((images, weights, biases, slopes, [1, 0]), r"skips\[0\] needs a layer before it"),
    ):
        with pytest.raises(RuntimeError, match=message):
            torch.ops.rirn.conv3x3_chain(*args, *shuffles)
    for shuffles, message in (((True, False), "even H and W"), ((False, True), "multiple of 4 channels")):
        with pytest.raises(RuntimeError, match=message):
            torch.ops.rirn.conv3x3_chain(images, weights, biases, slopes, skips, *shuffles)
