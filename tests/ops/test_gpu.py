"""What only a GPU can show of the pointwise CUDA ops and of fac. The cases of the other files run there, too: see `fused`."""

import pytest
import torch

from rirn.ops import atb_blend, reference, why_not
from tests.ops import contract
from tests.ops.cases import Case, atb_inputs
from tests.ops.test_dtb_blend import DTB
from tests.ops.test_fac import FAC
from tests.ops.test_gates import LSTM, RESET, UPDATE
from tests.tolerances import TABLE, assert_close

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

ATB = contract.Op(
    "atb_blend", atb_blend, reference.atb_blend, atb_inputs, ("f_prev", "f_cur", "logit_prev", "logit_cur"), 1
)
ops = pytest.mark.parametrize("op", [ATB, DTB, FAC, LSTM, RESET, UPDATE], ids=str)
FORMATS = {"contiguous": "contiguous_format", "channels_last": "channels_last"}
CASE = Case(2, 8, 36, 64, "fp16", logits="11")


@pytest.fixture
def cuda():
    """Skip in the backend's own words where the compiled kernels cannot run."""
    for op in (ATB, DTB, FAC, LSTM, RESET, UPDATE):
        if why_not("cuda", op.name, "cuda"):
            pytest.skip(why_not("cuda", op.name, "cuda"))


def plain(op, seed=0, case=CASE):
    return [t.detach() for t in op.make(case, "cuda", seed)]


def both_passes(op, inputs):
    leaves = [t.detach().requires_grad_() for t in inputs]
    outs = op.run(leaves, "cuda")
    return [*outs, *torch.autograd.grad(outs, leaves, [torch.ones_like(out) for out in outs])]


@ops
def test_runs_inside_a_cuda_graph(op, cuda):
    """Captured once, both passes, and replayed on other values."""
    held, other = plain(op), plain(op, seed=1)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        both_passes(op, held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both_passes(op, held)
    for t, value in zip(held, other, strict=True):
        t.copy_(value)
    graph.replay()
    for got, want in zip(captured, both_passes(op, other), strict=True):
        assert torch.equal(got, want)


@ops
def test_runs_on_the_current_stream(op, cuda):
    """Inputs that a long wait of the same stream delays are read when they are there, forward and backward."""
    inputs, late = plain(op), [torch.zeros_like(t) for t in plain(op)]
    want = both_passes(op, inputs)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        for t, value in zip(late, inputs, strict=True):
            t.copy_(value)
        found = both_passes(op, late)
    stream.synchronize()
    for got, expected in zip(found, want, strict=True):
        assert torch.equal(got, expected)


@ops
def test_equal_inputs_give_equal_bits(op, cuda):
    first = both_passes(op, plain(op))
    for _ in range(5):
        for got, want in zip(both_passes(op, plain(op)), first, strict=True):
            assert torch.equal(got, want)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
@ops
def test_runs_on_a_device_that_is_not_the_current_one(op, cuda):
    want = both_passes(op, plain(op))
    for got, expected in zip(both_passes(op, [t.to("cuda:1") for t in plain(op)]), want, strict=True):
        assert got.device.index == 1
        assert torch.equal(got.cpu(), expected.cpu())


TENSORS = {
    "atb_blend": 5,
    "dtb_blend": 4,
    "fac": 27,
    "gru_reset": 3,
    "gru_update": 4,
    "lstm_update": 7,
}  # read and written


@ops
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_more_than_two_to_the_31_elements(op, layout, cuda):
    """The largest input has more elements than a 32-bit index can count; the last rows are right."""
    h, w = 2**13 + 2, 2**12
    largest = max(t.shape[1] for t in plain(op, case=Case(1, 1, 1, 1)) if t.dim())
    c = 2**31 // (h * w * largest) + 1
    needed = 1.2 * TENSORS[op.name] * c * h * w * 2
    if torch.cuda.mem_get_info()[0] < needed:
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of free GPU memory")
    inputs = plain(op, case=Case(1, 1, 1, 1, "fp16"))
    for i, t in enumerate(inputs):
        if t.dim():
            made = torch.empty(1, c * t.shape[1], h, w, dtype=t.dtype, device="cuda")
            inputs[i] = made.contiguous(memory_format=getattr(torch, FORMATS[layout])).normal_()
    assert max(t.numel() for t in inputs) > 2**31
    outs = op.run(inputs, "cuda")
    tails = [t[:, :, -4:] if t.dim() else t for t in inputs]  # fac reaches two rows up
    want, _ = op.truth(tails, [torch.zeros_like(out[:, :, -4:]) for out in outs])
    for out, expected in zip(outs, want, strict=True):
        assert_close(out[:, :, -2:].cpu(), expected[:, :, -2:], TABLE[op.name, "output", "fp16"])
