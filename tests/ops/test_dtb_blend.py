"""dtb_blend on every fused backend against the reference in float64."""

import pytest
import torch

from rirn.ops import dtb_blend
from tests.ops import contract
from tests.ops.cases import Case
from tests.ops.test_extremes import BACKENDS, KINDS, features, logits
from tests.tolerances import DTYPES, NAMES, TABLE, assert_close

DTB = contract.of("dtb_blend")
CASES = [
    *(
        Case(2, 8, 7, 5, dtype, layout)
        for dtype in NAMES.values()
        for layout in ("contiguous", "channels_last")
    ),
    *(Case(2, 8, 7, 5, dtype, "contiguous", "11") for dtype in NAMES.values()),
    Case(1, 1, 1, 1),
    Case(1, 80, 1, 1, "bf16", "channels_last", "11"),
    Case(1, 1, 13, 31, logits="11"),
    Case(0, 4, 3, 3),
    Case(0, 4, 3, 3, logits="11"),
    Case(2, 0, 3, 3, logits="11"),
    Case(3, 5, 11, 17, "fp32", "sliced"),
    Case(3, 5, 11, 17, "fp16", "strided"),
    Case(3, 5, 11, 17, "fp32", "strided", "11"),
    Case(3, 5, 11, 17, "fp64", "transposed", "11"),
    Case(3, 5, 11, 17, "fp32", "expanded"),
    Case(3, 5, 11, 17, "fp32", "expanded", "11"),
    Case(2, 37, 3, 129, "fp32", "channels_last", "11"),
    Case(1, 3, 40, 61, "bf16", "sliced"),
]
LITTLE = [Case(2, 8, 7, 5), Case(2, 8, 7, 5, "bf16", "channels_last", "11")]
cases = pytest.mark.parametrize("case", CASES, ids=str)
little = pytest.mark.parametrize("case", LITTLE, ids=str)


@cases
def test_against_reference(case, fused):
    contract.check_against_reference(DTB, case, *fused("dtb_blend"))


@little
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_gradient_from_above_in_any_layout(case, layout, fused):
    contract.check_against_reference(DTB, case, *fused("dtb_blend"), layout)


@little
@pytest.mark.parametrize("isa", contract.isas())
def test_every_variant(isa, case, monkeypatch):
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    contract.check_against_reference(DTB, case, "cpu", "cpu")


@pytest.mark.parametrize("logits", ["CC", "11"])
def test_single_gradients(logits, fused):
    contract.check_single_gradients(DTB, Case(2, 4, 5, 3, logits=logits), *fused("dtb_blend"))


@pytest.mark.parametrize("logits", ["CC", "11"])
def test_gradcheck(logits, fused):
    backend, device = fused("dtb_blend")
    inputs = DTB.make(Case(1, 2, 3, 2, "fp64", logits=logits), device)
    assert torch.autograd.gradcheck(lambda *t: dtb_blend(*t, backend=backend), inputs)


@pytest.mark.parametrize(
    "case",
    [
        Case(2, 8, 37, 71),
        Case(2, 8, 37, 71, logits="11"),
        Case(2, 8, 37, 71, "bf16", "channels_last", "11"),
        Case(3, 5, 37, 71, "fp32", "strided"),
    ],
    ids=str,
)
def test_repeats_bit_for_bit_on_any_number_of_threads(case, fused, threads):
    contract.check_repeats(DTB, case, *fused("dtb_blend"), threads)


def test_saves_only_its_inputs(fused):
    contract.check_saves_only_its_inputs(DTB, Case(2, 4, 5, 3), *fused("dtb_blend"))


def test_what_is_not_finite_spreads_as_in_the_reference(fused):
    contract.check_nan(DTB, Case(1, 3, 3, 7), *fused("dtb_blend"))


@pytest.mark.parametrize(("beta", "open_pixels"), [(-0.5, 2), (0.0, 6), (1.0, 2), (1.5, 0)])
def test_gradients_at_the_kinks(beta, open_pixels, fused):
    """|tanh| is flat at 0; the clamp passes gradients on where it is exactly 0 or 1, with every torch."""
    backend, device = fused("dtb_blend")
    logit = torch.tensor([0.0, -0.0, 20.0, -20.0, 0.3, -0.3], dtype=torch.float64).reshape(1, 1, 2, 3)
    inputs = [
        t.to(device, torch.float32).requires_grad_()
        for t in (torch.full_like(logit, 2), torch.full_like(logit, 5), logit, torch.tensor(beta))
    ]
    outs = DTB.run(inputs, backend)
    grads = [torch.ones_like(outs[0])]
    want_outs, want = DTB.truth(inputs, grads)
    assert want[3] == open_pixels * (5 - 2)  # of beta, from f_cur - f_prev at each pixel
    found = torch.autograd.grad(outs, inputs, grads)
    assert_close(outs[0].cpu(), want_outs[0], TABLE["dtb_blend", "output", "fp32"])
    for name, got, expected in zip(DTB.inputs, found, want, strict=True):
        assert_close(got.cpu(), expected, TABLE["dtb_blend", "gradient", "fp32"], name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_weight_at_its_end(backend, dtype, kind):
    dtype = DTYPES[dtype]
    a, b, closed = features(dtype, 0), features(dtype, 1), logits(dtype, kind, -1)
    assert torch.equal(dtb_blend(a, b, closed, torch.tensor(0.0, dtype=dtype), backend=backend), b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: dtb_blend(x, x, x, x), "beta must be one number without dimensions"),
        (lambda x: dtb_blend(x, x, x[:, :, :1], x.sum()), "logit must be"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 2, 3, 3))
