"""What the torch ops promise to the dispatcher: schemas, fake kernels, autograd (torch.library.opcheck)."""

import pytest
import torch

from rirn.ops._library import library
from tests.ops.cases import Case, atb_inputs, irm_inputs

pytestmark = pytest.mark.skipif(not library().loaded, reason=str(library().reason))

ATB_CASES = [
    Case(2, 3, 4, 5),
    Case(1, 3, 4, 5, "bf16", "channels_last", "11"),
    Case(2, 3, 4, 5, "fp64", "strided", "C1", 1.5),
    Case(1, 1, 1, 1),
]
IRM_CASES = [
    Case(2, 3, 4, 5),
    Case(1, 2, 5, 3, "bf16", "channels_last"),
    Case(1, 1, 1, 1),
    Case(2, 2, 3, 4, "fp64", "strided"),
]


def detached(tensors):
    return [t.detach() for t in tensors]


@pytest.mark.parametrize("case", ATB_CASES, ids=str)
def test_atb_blend(case):
    inputs = atb_inputs(case)
    torch.library.opcheck(torch.ops.rirn.atb_blend.default, (*inputs, case.max_weight))
    torch.library.opcheck(torch.ops.rirn.atb_blend.default, (*detached(inputs), case.max_weight))


@pytest.mark.parametrize("needs", [1, 6, 15])
@pytest.mark.parametrize("case", ATB_CASES, ids=str)
def test_atb_blend_backward(case, needs):
    inputs = detached(atb_inputs(case))
    args = (torch.randn_like(inputs[1]), *inputs, case.max_weight, needs)
    torch.library.opcheck(torch.ops.rirn.atb_blend_backward.default, args)


@pytest.mark.parametrize("case", IRM_CASES, ids=str)
def test_irm_update(case):
    inputs = irm_inputs(case)
    for flat in (inputs, detached(inputs)):
        torch.library.opcheck(torch.ops.rirn.irm_update.default, (flat[0], flat[1], flat[2:8], flat[8:]))


@pytest.mark.parametrize("needs", [1, 0b10_0000_0100_0010, 2**14 - 1])
@pytest.mark.parametrize("case", IRM_CASES, ids=str)
def test_irm_update_backward(case, needs):
    flat = detached(irm_inputs(case))
    args = (torch.randn_like(flat[0]), flat[0], flat[1], flat[2:8], flat[8:], needs)
    torch.library.opcheck(torch.ops.rirn.irm_update_backward.default, args)


def test_unwanted_gradients_are_empty():
    inputs = detached(atb_inputs(Case(2, 3, 4, 5)))
    grads = torch.ops.rirn.atb_blend_backward(inputs[0], *inputs, 1.0, 0b0100)
    assert [g.numel() for g in grads] == [0, 0, 120, 0]


def test_meta_tensors_give_shapes():
    inputs = [t.detach().to("meta") for t in atb_inputs(Case(2, 3, 4, 5, layout="channels_last"))]
    out = torch.ops.rirn.atb_blend(*inputs, 1.0)
    assert out.shape == (2, 3, 4, 5)
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ops, x: ops.gru_reset(x[:, :1], x), r"logit_r must have the shape of hidden \[1, 2, 3, 3\]"),
        (lambda ops, x: ops.gru_update(x, x, x.double()), "logit_n must have the dtype of hidden"),
        (lambda ops, x: ops.lstm_update(x, x), r"gates must be \[N, 4C, H, W\] .* got \[1, 2, 3, 3\]"),
        (
            lambda ops, x: ops.lstm_update_backward(x, x[0], x.repeat(1, 4, 1, 1), x, 3),
            "grad_cell must have the shape",
        ),
        (lambda ops, x: ops.fac(x, x), r"kernels must be \[N, 25C, H, W\] .* got \[1, 2, 3, 3\]"),
        (lambda ops, x: ops.dtb_blend(x, x, x[:, :, :1], x.sum()), r"logit must be \[N, C or 1, H, W\]"),
        (lambda ops, x: ops.dtb_blend(x, x, x, x), "beta must be one number without dimensions"),
        (lambda ops, x: ops.dtb_blend(x, x[0], x, x.sum()), r"f_cur must be \[N, C, H, W\]; got \[2, 3, 3\]"),
    ],
)
def test_the_compiled_ops_check_for_themselves(call, message):
    """Whoever calls them past the public functions must not read beyond a tensor."""
    with pytest.raises(RuntimeError, match=message):
        call(torch.ops.rirn, torch.zeros(1, 2, 3, 3))
