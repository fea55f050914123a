"""gru_update and lstm_update on every fused backend against the reference in float64."""

import pytest
import torch

from rirn.ops import gru_reset, gru_update, lstm_update
from tests.ops import contract
from tests.ops.cases import Case, images
from tests.ops.test_extremes import BACKENDS, CLOSED, KINDS, features, logits
from tests.tolerances import DTYPES, NAMES, TABLE, assert_close

UPDATE = contract.of("gru_update")
LSTM = contract.of("lstm_update")
GATES = [UPDATE, LSTM]
CASES = [
    *(
        Case(2, 8, 7, 5, dtype, layout)
        for dtype in NAMES.values()
        for layout in ("contiguous", "channels_last")
    ),
    Case(1, 1, 1, 1),
    Case(1, 80, 1, 1, "bf16", "channels_last"),
    Case(1, 1, 13, 31),
    Case(1, 3, 40, 61, "bf16"),
    Case(0, 4, 3, 3),
    Case(3, 5, 11, 17, "fp32", "sliced"),
    Case(3, 5, 11, 17, "fp16", "strided"),
    Case(3, 5, 11, 17, "fp32", "strided"),
    Case(3, 5, 11, 17, "fp64", "transposed"),
    Case(3, 5, 11, 17, "fp32", "expanded"),
    Case(2, 37, 3, 129, "fp32", "channels_last"),
]
ops = pytest.mark.parametrize("op", GATES, ids=str)
cases = pytest.mark.parametrize("case", CASES, ids=str)


@ops
@cases
def test_against_reference(op, case, fused):
    contract.check_against_reference(op, case, *fused(op.name))


@ops
@pytest.mark.parametrize("case", [Case(2, 8, 7, 5), Case(2, 8, 7, 5, "bf16", "channels_last")], ids=str)
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_gradient_from_above_in_any_layout(op, case, layout, fused):
    contract.check_against_reference(op, case, *fused(op.name), layout)


@ops
@pytest.mark.parametrize("isa", contract.isas())
@pytest.mark.parametrize(
    "case",
    [Case(2, 5, 11, 17), Case(2, 5, 11, 17, "bf16", "channels_last"), Case(2, 5, 4, 5, "fp16")],
    ids=str,
)
def test_every_variant(op, isa, case, monkeypatch):
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    contract.check_against_reference(op, case, "cpu", "cpu")


@ops
def test_single_gradients(op, fused):
    contract.check_single_gradients(op, Case(2, 4, 5, 3), *fused(op.name))


@ops
def test_gradcheck(op, fused):
    backend, device = fused(op.name)
    inputs = op.make(Case(1, 2, 3, 2, "fp64"), device)
    assert torch.autograd.gradcheck(lambda *t: op.function(*t, backend=backend), inputs)


@ops
@pytest.mark.parametrize(
    "case",
    [Case(2, 8, 37, 71), Case(2, 8, 37, 71, "bf16", "channels_last"), Case(3, 5, 7, 9, "fp32", "strided")],
    ids=str,
)
def test_repeats_bit_for_bit_on_any_number_of_threads(op, case, fused, threads):
    contract.check_repeats(op, case, *fused(op.name), threads)


@ops
def test_saves_only_its_inputs(op, fused):
    contract.check_saves_only_its_inputs(op, Case(2, 4, 5, 3), *fused(op.name))


@ops
def test_what_is_not_finite_spreads_as_in_the_reference(op, fused):
    contract.check_nan(op, Case(1, 3, 3, 7), *fused(op.name))


@pytest.mark.parametrize(
    "case", [Case(1, 4, 6, 5), Case(2, 4, 6, 5), Case(2, 4, 6, 5, layout="channels_last")], ids=str
)
def test_gates_that_are_halves_of_one_convolution(case, fused):
    """As in ConvGRU: logit_z is a slice of the channels of another tensor."""
    backend, device = fused("gru_update")
    hidden, pair, logit_n = images(1, 2, 1)(case, device)
    out = gru_update(hidden, pair.chunk(2, 1)[0], logit_n, backend=backend)
    grads = contract.random_grads([out])
    found = torch.autograd.grad(out, (hidden, pair, logit_n), grads)
    want_out, want = UPDATE.truth([hidden, pair.detach().chunk(2, 1)[0], logit_n], grads)
    assert_close(out.cpu(), want_out[0], TABLE["gru_update", "output", "fp32"])
    halves = [found[0], found[1].chunk(2, 1)[0], found[2]]
    for name, got, expected in zip(UPDATE.inputs, halves, want, strict=True):
        assert_close(got.cpu(), expected, TABLE["gru_update", "gradient", "fp32"], name)
    assert not found[1].chunk(2, 1)[1].any()


@pytest.mark.parametrize("used", [0, 1])
def test_lstm_of_which_one_output_is_used(used, fused):
    backend, device = fused("lstm_update")
    inputs = LSTM.make(Case(2, 3, 5, 4), device)
    outs = LSTM.run(inputs, backend)
    grads = contract.random_grads(outs)
    found = torch.autograd.grad(outs[used], inputs, grads[used])
    grads[1 - used].zero_()
    for name, got, expected in zip(LSTM.inputs, found, LSTM.truth(inputs, grads)[1], strict=True):
        assert_close(got.cpu(), expected, TABLE["lstm_update", "gradient", "fp32"], name)


@pytest.mark.parametrize("isa", contract.isas())
def test_tanh_is_exact_near_zero(isa, monkeypatch):
    """An update gate of 1 leaves the tanh alone; its error stays relative to the value down to subnormals."""
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    x = torch.logspace(-37, 1.3, 4001).reshape(1, 1, 1, -1)
    x = torch.cat([x, -x], 3)
    got = gru_update(torch.zeros_like(x), torch.full_like(x, 100.0), x, backend="cpu").double()
    relative = (got / torch.tanh(x.double()) - 1).abs()
    assert relative.le(3e-7).all(), relative.max()


def test_second_derivative_of_fused_is_refused(fused):
    backend, device = fused("gru_update")
    inputs = UPDATE.make(Case(1, 2, 3, 3), device)
    (grad,) = torch.autograd.grad(UPDATE.run(inputs, backend)[0].square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        grad.sum().backward()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gates_that_are_fully_open_or_closed(backend, dtype, kind):
    dtype = DTYPES[dtype]
    a, b = features(dtype, 0), features(dtype, 1)
    opened, closed = logits(dtype, kind, 1), logits(dtype, kind, -1)
    assert torch.equal(gru_reset(opened, a), a)
    assert gru_reset(closed, a).abs().max() <= CLOSED
    assert torch.equal(gru_update(a, closed, b, backend=backend), a)
    assert torch.equal(gru_update(a, opened, closed, backend=backend), -torch.ones_like(a))
    hidden, cell = lstm_update(torch.cat([closed, opened, opened, b], 1), a, backend=backend)
    assert torch.equal(cell, a)
    torch.testing.assert_close(hidden, a.double().tanh().to(dtype))


@pytest.mark.parametrize("autocast", [False, True])
def test_reset_is_plain_torch_rounded_once(autocast):
    logit, hidden = (t.detach().float() for t in UPDATE.make(Case(1, 2, 3, 3))[:2])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = gru_reset(logit, hidden)
    dtype = torch.bfloat16 if autocast else torch.float32
    want = torch.sigmoid(logit.to(dtype).double()) * hidden.to(dtype).double()
    assert got.dtype == dtype
    torch.testing.assert_close(got, want.to(dtype))
    wide = [t.double().requires_grad_() for t in (logit, hidden)]
    assert torch.autograd.gradcheck(gru_reset, wide) and torch.autograd.gradgradcheck(gru_reset, wide)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: gru_reset(x[:, :1], x), r"logit_r must have the shape of hidden \[1, 2, 3, 3\]"),
        (lambda x: gru_update(x, x, x.double()), "logit_n must have the dtype of hidden"),
        (lambda x: lstm_update(x, x), r"gates must be \[N, 4C, H, W\]"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 2, 3, 3))
