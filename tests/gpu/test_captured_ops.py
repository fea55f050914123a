"""Each compiled CUDA op inside a graph, and on a device that is not the current one."""

import pytest
import torch

from rirn.ops import atb_blend, reference, why_not
from tests.ops import contract
from tests.ops.cases import Case, atb_inputs
from tests.ops.test_dtb_blend import DTB
from tests.ops.test_fac import FAC
from tests.ops.test_gates import LSTM, RESET, UPDATE

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

ATB = contract.Op(
    "atb_blend", atb_blend, reference.atb_blend, atb_inputs, ("f_prev", "f_cur", "logit_prev", "logit_cur"), 1
)
ops = pytest.mark.parametrize("op", [ATB, DTB, FAC, LSTM, RESET, UPDATE], ids=str)
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


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
@ops
def test_runs_on_a_device_that_is_not_the_current_one(op, cuda):
    want = both_passes(op, plain(op))
    for got, expected in zip(both_passes(op, [t.to("cuda:1") for t in plain(op)]), want, strict=True):
        assert got.device.index == 1
        assert torch.equal(got.cpu(), expected.cpu())
