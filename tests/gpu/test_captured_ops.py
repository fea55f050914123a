"""Each compiled CUDA op inside a graph, and on a device that is not the current one."""

import copy

import pytest
import torch

from rirn.nn import ATB as AdaptiveBlending
from rirn.nn.blocks import ResBlock
from rirn.ops import atb_blend, conv3x3_chain, explain, use_backend, why_not
from rirn.ops.atb_update import runs_atb_update
from rirn.ops.conv_epilogue import runs_conv_epilogue
from tests.ops import contract
from tests.ops.calls import reference
from tests.ops.cases import Case, atb_inputs
from tests.ops.test_dtb_blend import DTB
from tests.ops.test_fac import FAC
from tests.ops.test_gates import LSTM, UPDATE
from tests.ops.test_irm_update import IRM

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

ATB = contract.Op(
    "atb_blend", atb_blend, reference.atb_blend, atb_inputs, ("f_prev", "f_cur", "logit_prev", "logit_cur"), 1
)


def residual_block(x, weight1, weight2, bias1, bias2, *, backend=None):
    return conv3x3_chain([x], [weight1, weight2], [bias1, bias2], [0, 1], [False, True], backend=backend)


def arguments_of(block):
    convs = [block.conv1, block.conv2]
    weights, biases = ([getattr(conv, name) for conv in convs] for name in ("weight", "bias"))
    return [torch.empty_like(weights[0])], weights, biases, [0.0, 1.0], [0, 1]


def residual_block_inputs(case, device="cpu", seed=0):
    hidden, _, *parameters = IRM.make(case, device, seed)
    c = case.c
    weights = [w.detach()[:c, :c].contiguous().requires_grad_() for w in parameters[:2]]
    return [hidden, *weights, *(b.detach()[:c].clone().requires_grad_() for b in parameters[6:8])]


BLOCK = contract.Op(
    "conv3x3_chain",
    residual_block,
    reference.conv3x3_chain,
    residual_block_inputs,
    ("x", "weight1", "weight2", "bias1", "bias2"),
    0,
)
OPS = [ATB, BLOCK, DTB, FAC, IRM, LSTM, UPDATE]
ops = pytest.mark.parametrize("op", OPS, ids=str)
CASE = Case(2, 16, 36, 64, "fp16", logits="11")  # of 16 channels: IRM's kernels that take three layers


@pytest.fixture
def cuda():
    """Skip in the backend's own words where the compiled kernels cannot run."""
    for op in OPS:
        if why_not("cuda", op.name, "cuda"):
            pytest.skip(why_not("cuda", op.name, "cuda"))


def plain(op, seed=0, case=CASE):
    return [t.detach() for t in op.make(case, "cuda", seed)]


def both_passes(op, inputs):
    leaves = [t.detach().requires_grad_() for t in inputs]
    outs = op.run(leaves, "cuda")
    return [*outs, *torch.autograd.grad(outs, leaves, [torch.ones_like(out) for out in outs])]


def check_replay(call, held, other):
    """Capture ``call(held)`` once, after one ordinary call, and replay it on the values of ``other``."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call(held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call(held)
    for t, value in zip(held, other, strict=True):
        t.copy_(value)
    graph.replay()
    for got, want in zip(captured, call(other), strict=True):
        assert torch.equal(got, want)


@ops
def test_runs_inside_a_cuda_graph(op, cuda):
    """Both passes; the replay sees new weights, too."""
    check_replay(lambda inputs: both_passes(op, inputs), plain(op), plain(op, seed=1))


@torch.no_grad()
def test_adaptive_blending_without_gradients_runs_inside_a_cuda_graph(cuda):
    """As one op, with the weights that the module has at the replay."""
    atb = AdaptiveBlending(16).cuda().half()
    generator = torch.Generator("cuda").manual_seed(0)

    def values():
        shapes = [(2, 16, 36, 64)] * 2 + [p.shape for p in atb.parameters()]
        return [torch.randn(s, generator=generator, device="cuda").half() for s in shapes]

    held = [*values()[:2], *(p.detach() for p in atb.parameters())]
    frames = {"f_cur": held[0], "f_prev": held[1]}
    assert runs_atb_update(held[0], held)
    with use_backend("reference"):
        want = copy.deepcopy(atb).cpu().double()(**{name: t.cpu().double() for name, t in frames.items()})
    torch.testing.assert_close(atb(**frames).cpu().double(), want, rtol=0.01, atol=0.01)

    def call(tensors):
        names = [name for name, _ in atb.named_parameters()]
        parameters = dict(zip(names, tensors[2:], strict=True))
        frames = {"f_cur": tensors[0], "f_prev": tensors[1]}
        return [torch.func.functional_call(atb, parameters, (), frames)]

    check_replay(call, held, values())


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_follows_convolutions_of_the_library_runs_inside_a_cuda_graph(dtype, memory_format, cuda):
    """A residual block that ``auto`` leaves to torch, with an epilogue of ours."""
    block = ResBlock(96).cuda().to(dtype=dtype, memory_format=memory_format)
    assert explain("conv3x3_chain", *arguments_of(block)).backend == "reference"
    assert runs_conv_epilogue([p.detach() for p in block.parameters()])
    held, other = (
        torch.randn(2, 96, 36, 64, device="cuda").to(dtype=dtype, memory_format=memory_format) for _ in "ab"
    )
    with use_backend("reference"):
        want = copy.deepcopy(block).cpu().double()(held.cpu().double())
    torch.testing.assert_close(block(held).cpu().double(), want, rtol=0.01, atol=0.02)
    check_replay(lambda tensors: [block(*tensors)], [held], [other])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
@ops
def test_runs_on_a_device_that_is_not_the_current_one(op, cuda):
    want = both_passes(op, plain(op))
    for got, expected in zip(both_passes(op, [t.to("cuda:1") for t in plain(op)]), want, strict=True):
        assert got.device.index == 1
        assert torch.equal(got.cpu(), expected.cpu())
