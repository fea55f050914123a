"""What the compiled CUDA ops promise to the dispatcher, seen without a GPU: dispatch keys, and tensors that are on
one in name only."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rirn.ops import backends
from rirn.ops._library import library
from tests.ops import contract
from tests.ops.cases import Case, atb_inputs
from tests.ops.test_dtb_blend import DTB
from tests.ops.test_fac import FAC
from tests.ops.test_gates import LSTM, RESET, UPDATE

pytestmark = [
    pytest.mark.skipif(not library().loaded, reason=str(library().reason)),
    pytest.mark.skipif(not backends.cuda_archs(), reason="the library was compiled without CUDA"),
]

OPS = {op.name: (op.make, op.state, ()) for op in (RESET, UPDATE, LSTM, DTB, FAC)}
OPS["atb_blend"] = (atb_inputs, 1, (1.5,))
ops = pytest.mark.parametrize("name", sorted(OPS))


@ops
@pytest.mark.parametrize("suffix", ["", "_backward"])
def test_has_a_cuda_kernel(name, suffix):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rirn::{name}{suffix}", "CUDA")


@ops
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_fake_tensors_on_cuda_flow_forward_and_backward(name, layout):
    """The backward ops are called by themselves: autograd's engine wants a torch that knows CUDA."""
    make, state, constants = OPS[name]
    real = [t.detach() for t in make(Case(2, 3, 4, 5, "bf16", layout, "11"))]
    with FakeTensorMode():
        inputs = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda") for t in real]
        outs = contract.as_tuple(getattr(torch.ops.rirn, name)(*inputs, *constants))
        for out in outs:
            assert out.device.type == "cuda" and out.dtype == torch.bfloat16
            assert out.shape == inputs[state].shape
            assert out.stride() == torch.empty_like(inputs[state]).stride()
        backward = getattr(torch.ops.rirn, f"{name}_backward")
        grads = backward(*outs, *inputs, *constants, 0b10)
        for i, (grad, t) in enumerate(zip(grads, inputs, strict=True)):
            assert grad.device.type == "cuda" and grad.dtype == t.dtype
            assert grad.shape == (t.shape if i == 1 else (0,))
