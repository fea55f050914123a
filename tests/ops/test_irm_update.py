"""irm_update on every fused backend against the reference in float64."""

import pytest
import torch

from rirn.ops import hold_activations, irm_update
from tests.ops import contract, rounded
from tests.ops.calls import reference
from tests.ops.cases import Case, irm_inputs, like_truth
from tests.tolerances import NAMES, TABLE, assert_close, row_of

CASES = [
    *(
        Case(2, 4, 7, 5, dtype, layout)
        for dtype in NAMES.values()
        for layout in ("contiguous", "channels_last")
    ),
    Case(1, 1, 1, 1),
    Case(1, 20, 1, 1, "bf16", "channels_last"),
    Case(1, 3, 1, 17),
    Case(1, 3, 17, 1, "fp32", "channels_last"),
    Case(0, 4, 3, 3),
    Case(3, 5, 11, 13, "fp32", "sliced"),
    Case(3, 5, 11, 13, "fp16", "strided"),
    Case(3, 5, 11, 13, "fp32", "strided"),
    Case(2, 3, 11, 13, "fp64", "transposed"),
    Case(2, 5, 11, 13, "fp32", "expanded"),
    Case(1, 20, 19, 23),
    Case(1, 16, 24, 32, "fp32", "channels_last"),
    Case(1, 20, 19, 23, "bf16"),
    Case(1, 7, 29, 37, "bf16", "channels_last"),
]
ids = pytest.mark.parametrize("case", CASES, ids=str)
LAYERS = ("joint", "res1a", "res1b", "res2a", "res2b", "out")
TENSORS = (
    "hidden",
    "inner",
    *(f"weights[{layer}]" for layer in LAYERS),
    *(f"biases[{layer}]" for layer in LAYERS),
)


def of_tensors(hidden, inner, *parameters, backend=None):
    return irm_update(hidden, inner, parameters[:6], parameters[6:], backend=backend)


def reference_of_tensors(hidden, inner, *parameters):
    return reference.irm_update(hidden, inner, parameters[:6], parameters[6:])


IRM = contract.Op("irm_update", of_tensors, reference_of_tensors, irm_inputs, TENSORS, 0)


def call(flat, backend):
    return of_tensors(*flat, backend=backend)


def run(inputs, backend, grad=None):
    out = call(inputs, backend)
    grad = (
        torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out) if grad is None else grad
    )
    return out, torch.autograd.grad(out, inputs, grad), grad


def truth(inputs, grad):
    wide = like_truth(inputs)
    out = reference_of_tensors(*wide)
    return out, torch.autograd.grad(out, wide, grad.cpu().double())


def check(case, backend, device, grad=None):
    inputs = irm_inputs(case, device)
    out, grads, grad = run(inputs, backend, grad)
    want, want_grads = truth(inputs, grad)
    assert out.dtype == inputs[0].dtype
    assert out.stride() == torch.empty_like(inputs[0]).stride()
    if backend == "cuda":
        assert_close(out.cpu(), want, TABLE["irm_update", "output", case.dtype], "output")
        return check_rounded(case, inputs, out, grads, grad)
    op = row_of("irm_update", backend, case.dtype)
    assert_close(out.cpu(), want, TABLE[op, "output", case.dtype], "output")
    for name, got, expected in zip(TENSORS, grads, want_grads, strict=True):
        assert_close(got.cpu(), expected, TABLE[op, "gradient", case.dtype], f"gradient of {name}")


def check_rounded(case, inputs, out, grads, grad):
    """The CUDA kernels round every layer."""
    hidden, inner, *parameters = wide = like_truth(inputs)
    options = (0, 0, 1, 0, 1, 1), (False, False, True, False, True, False)
    want = rounded.chain([hidden, inner], parameters[:6], parameters[6:], *options, dtype=inputs[0].dtype)
    rounded.assert_close_to_rounded("irm_update", "output", case, out.cpu(), want, "output")
    want_grads = torch.autograd.grad(want, wide, grad.cpu().double())
    for name, got, expected in zip(TENSORS, grads, want_grads, strict=True):
        rounded.assert_close_to_rounded("irm_update", "gradient", case, got.cpu(), expected, name)


@ids
def test_against_reference(case, fused):
    check(case, *fused("irm_update"))


@pytest.mark.parametrize("case", [Case(2, 4, 7, 5), Case(2, 4, 7, 5, "fp32", "channels_last")], ids=str)
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_gradient_from_above_in_any_layout(case, layout, fused):
    backend, device = fused("irm_update")
    shape, like = (case.n, case.c, case.h, case.w), irm_inputs(case, device)[0]
    grad = like.detach().mean().expand(shape) if layout == "expanded" else like.detach().mT.contiguous().mT
    check(case, backend, device, grad)


@pytest.mark.parametrize("dtype", NAMES.values())
def test_reference_rounds_once(dtype):
    inputs = irm_inputs(Case(2, 4, 7, 5, dtype))
    out, _, grad = run(inputs, "reference")
    op = (
        "irm_update" if dtype in ("fp32", "fp64") else "atb_blend"
    )  # in half precision as exact as a pointwise op
    assert_close(out, truth(inputs, grad)[0], TABLE[op, "output", dtype])


@pytest.mark.parametrize(
    "wanted", [{"hidden"}, {"inner"}, {"weights[res1b]", "biases[joint]"}, set(TENSORS[2:])], ids=len
)
def test_partial_gradients(wanted, fused):
    backend, device = fused("irm_update")
    inputs = irm_inputs(Case(2, 3, 5, 4), device)
    for name, t in zip(TENSORS, inputs, strict=True):
        t.requires_grad_(name in wanted)
    out = call(inputs, backend)
    out.backward(torch.ones_like(out))
    _, want = truth(inputs, torch.ones_like(out))
    for name, t, expected in zip(TENSORS, inputs, want, strict=True):
        assert (t.grad is not None) == (name in wanted)
        if t.grad is not None:
            assert_close(t.grad.cpu(), expected, TABLE["irm_update", "gradient", "fp32"], name)


def test_gradcheck(fused):
    backend, device = fused("irm_update")
    inputs = irm_inputs(Case(1, 1, 3, 2, "fp64"), device)
    assert torch.autograd.gradcheck(lambda *t: call(t, backend), inputs)


def test_second_derivative_of_fused_is_refused(fused):
    backend, device = fused("irm_update")
    inputs = irm_inputs(Case(1, 1, 3, 3), device)
    (grad,) = torch.autograd.grad(call(inputs, backend).square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        grad.sum().backward()


@pytest.mark.parametrize("case", [Case(2, 5, 23, 19), Case(2, 5, 23, 19, "bf16", "channels_last")], ids=str)
def test_repeats_bit_for_bit_on_any_number_of_threads(case, fused, threads):
    backend, device = fused("irm_update")
    results = []
    for count in (1, 2, 2):
        threads(count)
        inputs = irm_inputs(case, device)
        out, grads, _ = run(inputs, backend)
        results.append([out, *grads])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_saves_only_its_inputs(fused):
    backend, device = fused("irm_update")
    inputs = irm_inputs(Case(2, 3, 5, 4), device)
    saved = []
    with (
        hold_activations(0),
        torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t),
    ):
        call(inputs, backend)
    assert len(saved) == 14
    assert {t.data_ptr() for t in saved} == {t.data_ptr() for t in inputs}


def test_channels_last_weights(fused):
    """A model moved to channels_last has its weights in that layout too; their gradients follow."""
    backend, device = fused("irm_update")
    inputs = irm_inputs(Case(2, 4, 7, 5, "fp32", "channels_last"), device)
    inputs[2:8] = [
        t.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for t in inputs[2:8]
    ]
    out, grads, grad = run(inputs, backend)
    want, want_grads = truth(inputs, grad)
    assert_close(out.cpu(), want, TABLE["irm_update", "output", "fp32"])
    for name, t, got, expected in zip(TENSORS, inputs, grads, want_grads, strict=True):
        assert_close(got.cpu(), expected, TABLE["irm_update", "gradient", "fp32"], name)
        assert got.stride() == t.stride(), name


def _replace(i, tensor):
    inputs = [t.detach() for t in irm_inputs(Case(1, 2, 4, 4))]
    inputs[i] = tensor
    return inputs


@pytest.mark.parametrize(
    ("i", "tensor", "message"),
    [
        (0, torch.zeros(2, 4, 4), r"hidden must be \[N, C, H, W\]; got \[2, 4, 4\]"),
        (
            1,
            torch.zeros(1, 2, 4, 5),
            r"inner must have the shape of hidden \[1, 2, 4, 4\]; got \[1, 2, 4, 5\]",
        ),
        (1, torch.zeros(1, 2, 4, 4).double(), r"inner must have the dtype of hidden .*; got torch.float64"),
        (
            4,
            torch.zeros(4, 4, 1, 1),
            r"weights\[res1b\] must be \[4, 4, 3, 3\] for hidden of 2 channels; got \[4, 4, 1, 1\]",
        ),
        (7, torch.zeros(4, 4, 3, 3), r"weights\[out\] must be \[2, 4, 3, 3\]"),
        (13, torch.zeros(4), r"biases\[out\] must be \[2\] for hidden of 2 channels; got \[4\]"),
    ],
)
@pytest.mark.parametrize("backend", ["reference", None])
def test_errors_name_rule_and_value(i, tensor, message, backend):
    with pytest.raises(ValueError, match=message):
        call(_replace(i, tensor), backend)


def test_wrong_number_of_tensors():
    inputs = irm_inputs(Case(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"six tensors each .*; got 5 weights and 6 biases"):
        irm_update(inputs[0], inputs[1], inputs[2:7], inputs[8:])
