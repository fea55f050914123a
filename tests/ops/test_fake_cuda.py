"""Ops on fake CUDA tensors, which need no GPU: dispatch keys, and shapes, dtypes, strides and devices of what comes out."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

import rirn.kernels
from rirn.errors import RirnError
from rirn.ops import atb_blend, held, precision
from rirn.ops._library import library
from rirn.ops._register import define_triton
from rirn.ops.backends import INFERENCE_OPS, OPS, assume, choose, is_auto
from tests.ops.calls import arguments
from tests.ops.cases import Case

SOURCES = Path(__file__).resolve().parents[2] / "csrc"
NAMES = [name for op in OPS for name in (op, f"{op}_backward")]
CASES = [
    Case(2, 3, 6, 8),
    Case(2, 3, 6, 8, "fp16", "channels_last"),
    Case(1, 4, 5, 7, "bf16", "contiguous", "11"),
    Case(2, 3, 4, 5, "fp32", "strided"),
]
needs_library = pytest.mark.skipif(not library().loaded, reason=str(library().reason))


def registered(folder):
    """Ops that the sources of a folder register kernels of, for tensors of its device."""
    suffixes = {".cpp", ".cu"}
    texts = [path.read_text() for path in (SOURCES / folder).iterdir() if path.suffix in suffixes]
    blocks = rf"STABLE_TORCH_LIBRARY_IMPL\(rirn, {folder.upper()}, m\) \{{(.*?)\}}$"
    found = (block for text in texts for block in re.findall(blocks, text, re.DOTALL | re.MULTILINE))
    return {name for block in found for name in re.findall(r'm\.impl\("(\w+)"', block)}


def has_kernel(name, key):
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"rirn::{name}", key)


@pytest.mark.parametrize("folder", ["cpu", "cuda"])
def test_every_forward_pass_has_its_backward_pass(folder):
    found = registered(folder) - {*INFERENCE_OPS, *held.TORCH_OPS, precision.TORCH_OP}
    assert found <= set(NAMES)
    assert {name for name in found if not name.endswith("_backward")} == {
        name.removesuffix("_backward") for name in found if name.endswith("_backward")
    }


@needs_library
@pytest.mark.parametrize("name", [*NAMES, *INFERENCE_OPS])
def test_dispatch_keys(name):
    """What the sources register is in the library; CUDA kernels too on a machine without a GPU, if they were compiled."""
    assert has_kernel(name, "Meta")
    assert has_kernel(name, "CPU") == (name in registered("cpu"))
    assert has_kernel(name, "CUDA") == (name in registered("cuda") and bool(library().build["cuda_archs"]))
    for key in ("AutogradCPU", "AutogradCUDA"):
        assert torch._C._dispatch_has_computed_kernel_for_dispatch_key(f"rirn::{name}", key)


def on_fake_cuda(tree):
    """Fake CUDA tensors of the shapes and strides of others."""
    return tree_map_only(
        Tensor, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda"), tree
    )


def check(name, op, args):
    """A torch op gives on fake CUDA tensors what rirn's own gives on the CPU, but for the values."""
    expected = tree_leaves(getattr(torch.ops.rirn, name)(*args))
    with FakeTensorMode():
        found = tree_leaves(op(*on_fake_cuda(args)))
    assert len(found) == len(expected)
    for got, want in zip(found, expected, strict=True):
        assert got.device.type == "cuda"
        assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())


@needs_library
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("op", OPS)
def test_compiled_ops(op, case, backward):
    name = f"{op}_backward" if backward else op
    check(name, getattr(torch.ops.rirn, name), arguments(op, case, backward=backward))


@needs_library
@pytest.mark.parametrize("op", OPS)
def test_unwanted_gradients_are_empty(op):
    *args, _ = arguments(op, Case(1, 2, 4, 6), backward=True)
    check(f"{op}_backward", getattr(torch.ops.rirn, f"{op}_backward"), [*args, 0b10])


@needs_library
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("op", OPS)
def test_triton_ops(op, case, backward):
    if rirn.kernels.why_not():
        pytest.skip(rirn.kernels.why_not())
    define_triton(op)
    name = f"{op}_backward" if backward else op
    check(name, getattr(torch.ops.rirn, f"triton_{name}"), arguments(op, case, backward=backward))


@needs_library
def test_a_backend_that_cannot_run_may_be_assumed():
    cpu = torch.device("cpu")
    before = choose("atb_blend", cpu)
    with assume("cuda"):
        assert choose("atb_blend", cpu) == choose("atb_blend", cpu, "reference") == "cuda"
        assert is_auto()
        with FakeTensorMode():
            x = torch.empty(1, 2, 3, 4, device="cuda")
            assert atb_blend(x, x, x, x).device.type == "cuda"
    assert choose("atb_blend", cpu) == before
    with pytest.raises(RirnError, match=r"'auto' \(assume\) is not a backend"), assume("auto"):
        pass
