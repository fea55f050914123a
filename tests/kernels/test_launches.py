"""What calls of the Triton kernels compile and launch, on a GPU that is none."""

import pytest
import torch

import rirn.kernels

if rirn.kernels.why_not() or rirn.kernels.interpreted():
    pytest.skip("needs Triton's compiler", allow_module_level=True)

from rirn.kernels import conv3x3, conv3x3_chain, launch
from tests.kernels.fake_gpu import block, compiled, fake_gpu, loads


@pytest.fixture(autouse=True)
def gpu(monkeypatch, tmp_path):
    """Nothing compiled and nothing kept."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(launch, "_compiled", {})
    for kernel in (conv3x3._conv, launch._sum_rows):
        kernel.device_caches.clear()
    with fake_gpu():
        yield


def call(*args, **kwargs):
    conv3x3_chain.forward(*block(*args, **kwargs))
    return [loads(kernel.asm["ptx"]) for kernel in compiled(conv3x3._conv)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_are_read_in_wide_pieces_however_they_lie(dtype):
    found = call(64, dtype, weights_last=False)
    assert len(found) == 2
    for sizes in found:  # those of 4 bytes are the bias
        assert set(sizes) <= {4, 16} and sizes[16] > 2 * sizes.get(4, 0), sizes
    assert call(64, dtype, weights_last=True) == found  # nothing else


def test_what_was_found_is_launched_again():
    arguments = block(16, torch.bfloat16, True)
    conv3x3_chain.forward(*arguments)
    kept = list(launch._compiled.values())
    assert kept == compiled(conv3x3._conv) and len(kept) == 2
    started = []
    for kernel in kept:
        kernel._run = lambda *args, kernel=kernel: started.append((kernel, args[:3], args[-1]))
    conv3x3_chain.forward(*arguments)
    assert [kernel for kernel, *_ in started] == kept
    assert all(grid == (2, 1, 1) and last == "ieee" for _, grid, last in started)
    assert len(compiled(conv3x3._conv)) == 2


def sums(rows, columns, border=1, at=0):
    """The kernel that adds up rows of this size, which begin so many elements behind a multiple of 16 bytes."""
    memory = torch.zeros(rows * columns + at)
    launch.sum_rows(memory[at:].view(rows, columns), torch.zeros(border), torch.zeros(columns - border))
    return list(launch._compiled.values())[-1]


@pytest.mark.parametrize(
    "other",
    [{"rows": 32}, {"rows": 1}, {"columns": 64}, {"columns": 33}, {"border": 16}, {"at": 1}],
    ids=str,
)
def test_other_code_is_not_taken_for_this(other):
    plain = {"rows": 5, "columns": 34, "border": 3, "at": 0}
    first = sums(**plain)
    assert sums(**plain) is first and sums(**plain | {"rows": 6}) is first
    second = sums(**plain | other)
    # The same code only where Triton itself makes no difference.
    assert (second is first) == (len(compiled(launch._sum_rows)) == 1)
    if other != {"columns": 33}:
        assert second is not first


def test_types_have_their_own_code():
    conv3x3_chain.forward(*block(16, torch.bfloat16, True))
    conv3x3_chain.forward(*block(16, torch.float16, True))
    assert len(launch._compiled) == len(set(launch._compiled.values())) == 4
