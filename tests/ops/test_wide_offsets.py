"""Offsets beyond 2^31 elements, without so many: views whose neighbours along one dimension lie that far apart in memory that
is reserved and hardly touched; and for the GPU kernels, whose large tensors need a GPU (``tests/gpu``), their source."""

from __future__ import annotations

import mmap
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rirn.ops.spec import OPS
from tests.ops.test_determinism import forward_and_gradients, leaves_of
from tests.tolerances import DTYPES

ROOT = Path(__file__).resolve().parents[2]
NORESERVE = 0x4000
"""MAP_NORESERVE of Linux, which older versions of Python do not name."""
FAR = 2**31 + 64
"""Elements between neighbours; the product with any index but 0 needs more than 32 bits."""
APART = 2**16
"""Elements between the tensors that share the memory, more than any of them has along its other dimensions."""


@pytest.fixture(scope="module")
def memory():
    """Virtual memory for two far neighbours in float32; pages that nobody touches cost nothing."""
    if sys.platform != "linux":
        pytest.skip("other systems may reserve all memory that is mapped")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    try:
        return torch.frombuffer(mmap.mmap(-1, 4 * (FAR + 64 * APART), flags=flags), dtype=torch.uint8)
    except OSError as error:
        pytest.skip(f"this system refuses to map so much memory ({error})")


def far_away(tensor: Tensor, dim: int, place: int, memory: Tensor) -> Tensor:
    """The values of a tensor, of size 2 along ``dim`` and with neighbours along it :data:`FAR` apart."""
    sizes, strides, step = list(tensor.shape), [0] * tensor.dim(), 1
    for d in reversed(range(tensor.dim())):
        strides[d] = FAR if d == dim else step
        step *= 1 if d == dim else sizes[d]
    assert sizes[dim] == 2 and step < APART
    view = memory.view(tensor.dtype).as_strided(sizes, strides, place * APART)
    return view.copy_(tensor.detach()).requires_grad_()


def is_image(tensor: Tensor) -> bool:
    """Whether it has the pixels of an image, and not the taps of a filter."""
    return tensor.dim() == 4 and tensor.shape[2:] != (3, 3)


@pytest.mark.parametrize("dtype", ("fp32", "bf16"))
@pytest.mark.parametrize("dim", range(4), ids="NCHW")
@pytest.mark.parametrize("op", OPS)
def test_neighbours_far_apart(op, dim, dtype, memory):
    sizes = [3, 3, 4, 6]
    sizes[dim] = 2
    near = leaves_of(op, *sizes, DTYPES[dtype])
    far = [
        far_away(t, dim, i, memory) if is_image(t) and t.shape[dim] == 2 else t.detach().requires_grad_()
        for i, t in enumerate(near)
    ]
    assert any(max(t.stride(), default=0) == FAR for t in far)
    want, found = forward_and_gradients(op, near, "cpu"), forward_and_gradients(op, far, "cpu")
    for got, expected in zip(found, want, strict=True):
        limit = {"fp32": 1e-5, "bf16": 1e-2}[dtype]
        torch.testing.assert_close(got, expected, rtol=limit, atol=limit)


CUDA_PRODUCT = re.compile(r"(\((?:int64_t)\)|static_cast<int64_t>\()?\b(?:blockIdx|gridDim)\.x\)? \*")
TRITON_PRODUCT = re.compile(r"tl\.program_id\(0\)(\.to\(tl\.int64\))? \*")


def narrow_products(pattern: re.Pattern[str], text: str) -> list[str]:
    """Products with the number of a program along the dimension that grows with the tensors, in 32 bits."""
    return [match[0] for match in pattern.finditer(text) if match[1] is None]


@pytest.mark.parametrize("path", sorted((ROOT / "csrc/cuda").glob("*.cu*")), ids=lambda path: path.name)
def test_cuda_kernels_number_elements_in_64_bits(path):
    assert narrow_products(CUDA_PRODUCT, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").glob("*.py")), ids=lambda path: path.name)
def test_triton_kernels_number_elements_in_64_bits(path):
    assert narrow_products(TRITON_PRODUCT, path.read_text(encoding="utf-8")) == []


def test_the_search_finds():
    assert narrow_products(CUDA_PRODUCT, "const int i = blockIdx.x * kThreads + threadIdx.x;")
    assert not narrow_products(CUDA_PRODUCT, "(int64_t)blockIdx.x * k + static_cast<int64_t>(gridDim.x) * k")
    assert narrow_products(TRITON_PRODUCT, "at = tl.program_id(0) * BLOCK")
    assert not narrow_products(TRITON_PRODUCT, "at = tl.program_id(0).to(tl.int64) * BLOCK")
