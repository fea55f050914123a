"""atb_blend on every fused backend against the reference in float64."""

import pytest
import torch

from rirn.ops import atb_blend
from tests.ops.calls import reference
from tests.ops.cases import Case, atb_inputs, like_truth
from tests.tolerances import NAMES, TABLE, assert_close

CASES = [
    *(
        Case(2, 8, 7, 5, dtype, layout)
        for dtype in NAMES.values()
        for layout in ("contiguous", "channels_last")
    ),
    *(Case(2, 8, 7, 5, dtype, "contiguous", "11", 2.0) for dtype in NAMES.values()),
    Case(1, 1, 1, 1),
    Case(1, 80, 1, 1, "bf16", "channels_last", "11"),
    Case(1, 1, 13, 31, max_weight=2.0),
    Case(0, 4, 3, 3),
    Case(0, 4, 3, 3, logits="11"),
    Case(2, 0, 3, 3, logits="11"),
    Case(3, 5, 11, 17, "fp32", "sliced"),
    Case(3, 5, 11, 17, "fp16", "strided"),
    Case(3, 5, 11, 17, "fp32", "strided", "1C", 1.3),
    Case(3, 5, 11, 17, "fp64", "transposed", "C1", 1.3),
    Case(3, 5, 11, 17, "fp32", "expanded"),
    Case(2, 37, 3, 129, "fp32", "channels_last", "C1"),
    Case(2, 80, 9, 16, "fp32", "channels_last", "11", 0.0),
    Case(1, 3, 40, 61, "bf16", "sliced", "1C"),
]
ids = pytest.mark.parametrize("case", CASES, ids=str)


def truth(case, inputs, grad):
    wide = like_truth(inputs)
    out = reference.atb_blend(*wide, case.max_weight)
    return out, torch.autograd.grad(out, wide, grad.cpu().double())


def terms(case, inputs):
    """Sum of the absolute values of the two terms of the blend."""
    f_prev, f_cur, *logits = like_truth(inputs)
    return reference.atb_blend(f_prev.abs(), f_cur.abs(), *logits, case.max_weight)


def run(case, inputs, backend, grad=None):
    out = atb_blend(*inputs, max_weight=case.max_weight, backend=backend)
    grad = (
        torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out) if grad is None else grad
    )
    return out, torch.autograd.grad(out, inputs, grad), grad


def check(case, backend, device, grad=None):
    inputs = atb_inputs(case, device)
    out, grads, grad = run(case, inputs, backend, grad)
    want, want_grads = truth(case, inputs, grad)
    assert out.dtype == inputs[1].dtype
    assert out.stride() == torch.empty_like(inputs[1]).stride()
    limits = {kind: TABLE["atb_blend", kind, case.dtype] for kind in ("output", "gradient")}
    assert_close(out.cpu(), want, limits["output"], "output", terms(case, inputs))
    for name, got, expected in zip(
        ("f_prev", "f_cur", "logit_prev", "logit_cur"), grads, want_grads, strict=True
    ):
        assert_close(got.cpu(), expected, limits["gradient"], f"gradient of {name}")


@ids
def test_against_reference(case, fused):
    check(case, *fused("atb_blend"))


@pytest.mark.parametrize("case", [Case(2, 8, 7, 5), Case(2, 8, 7, 5, "bf16", "channels_last", "11")], ids=str)
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_gradient_from_above_in_any_layout(case, layout, fused):
    backend, device = fused("atb_blend")
    shape, like = (case.n, case.c, case.h, case.w), atb_inputs(case, device)[1]
    grad = like.detach().mean().expand(shape) if layout == "expanded" else like.detach().mT.contiguous().mT
    check(case, backend, device, grad)


@pytest.mark.parametrize("dtype", NAMES.values())
def test_reference_rounds_once(dtype):
    case = Case(2, 8, 7, 5, dtype)
    inputs = atb_inputs(case)
    out, _, grad = run(case, inputs, "reference")
    want = truth(case, inputs, grad)[0]
    assert_close(out, want, TABLE["atb_blend", "output", dtype], terms=terms(case, inputs))


@pytest.mark.parametrize("logits", ["CC", "1C"])
@pytest.mark.parametrize("wanted", [1, 2, 4, 8, 5, 10, 3, 12, 15])
def test_partial_gradients(wanted, logits, fused):
    backend, device = fused("atb_blend")
    case = Case(2, 4, 5, 3, logits=logits)
    inputs = atb_inputs(case, device)
    for i, t in enumerate(inputs):
        t.requires_grad_(bool(wanted >> i & 1))
    out = atb_blend(*inputs, backend=backend)
    out.backward(torch.ones_like(out))
    _, want = truth(case, inputs, torch.ones_like(out))
    for i, t in enumerate(inputs):
        assert (t.grad is not None) == bool(wanted >> i & 1)
        if t.grad is not None:
            assert_close(t.grad.cpu(), want[i], TABLE["atb_blend", "gradient", "fp32"])


def test_gradcheck(fused):
    backend, device = fused("atb_blend")
    for logits in ("CC", "11"):
        inputs = atb_inputs(Case(1, 2, 3, 2, "fp64", logits=logits), device)
        assert torch.autograd.gradcheck(lambda *t: atb_blend(*t, max_weight=1.5, backend=backend), inputs)


def test_reference_differentiates_twice():
    inputs = atb_inputs(Case(1, 1, 2, 2, "fp64"))
    assert torch.autograd.gradgradcheck(lambda *t: atb_blend(*t, backend="reference"), inputs)


def test_second_derivative_of_fused_is_refused(fused):
    backend, device = fused("atb_blend")
    inputs = atb_inputs(Case(1, 2, 3, 3), device)
    out = atb_blend(*inputs, backend=backend)
    (grad,) = torch.autograd.grad(out.square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        grad.sum().backward()


@pytest.mark.parametrize(
    "case", [Case(2, 8, 37, 21), Case(2, 8, 37, 21, "bf16", "channels_last", "11")], ids=str
)
def test_repeats_bit_for_bit_on_any_number_of_threads(case, fused, threads):
    backend, device = fused("atb_blend")
    results = []
    for count in (1, 2, 2):
        threads(count)
        inputs = atb_inputs(case, device)
        out, grads, _ = run(case, inputs, backend)
        results.append([out, *grads])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_saves_only_its_inputs(fused):
    backend, device = fused("atb_blend")
    inputs = atb_inputs(Case(2, 4, 5, 3), device)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        atb_blend(*inputs, backend=backend)
    assert len(saved) == 4
    assert {t.data_ptr() for t in saved} == {t.data_ptr() for t in inputs}


def test_backward_twice_gives_the_same(fused):
    backend, device = fused("atb_blend")
    inputs = atb_inputs(Case(1, 3, 4, 5), device)
    out = atb_blend(*inputs, backend=backend)
    first, second = (torch.autograd.grad(out.sum(), inputs, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {0: torch.zeros(2, 4, 5, 4)},
            r"f_prev must have the shape of f_cur \[2, 4, 5, 3\]; got \[2, 4, 5, 4\]",
        ),
        (
            {2: torch.zeros(2, 3, 5, 3)},
            r"logit_prev must be \[N, C or 1, H, W\] .*\[2, 4, 5, 3\]; got \[2, 3, 5, 3\]",
        ),
        ({3: torch.zeros(1, 1, 5, 3)}, r"logit_cur must be .* got \[1, 1, 5, 3\]"),
        ({1: torch.zeros(4, 5, 3)}, r"f_cur must be \[N, C, H, W\]; got \[4, 5, 3\]"),
        ({1: torch.zeros(2, 4, 5, 3, dtype=torch.int32)}, r"f_cur must be float32.* got torch.int32"),
        (
            {0: torch.zeros(2, 4, 5, 3).half()},
            r"f_prev must have the dtype of f_cur \(torch.float32\); got torch.float16",
        ),
        (
            {3: torch.zeros(2, 4, 5, 3, device="meta")},
            r"logit_cur must be on the device of f_cur \(cpu\); got meta",
        ),
    ],
)
@pytest.mark.parametrize("backend", ["reference", None])
def test_errors_name_rule_and_value(change, message, backend):
    inputs = [torch.zeros(2, 4, 5, 3) for _ in range(4)]
    for i, t in change.items():
        inputs[i] = t
    with pytest.raises(ValueError, match=message):
        atb_blend(*inputs, backend=backend)


@pytest.mark.parametrize("max_weight", [-0.5, float("nan"), float("inf")])
def test_max_weight_is_checked(max_weight):
    with pytest.raises(ValueError, match="max_weight must be finite"):
        atb_blend(*atb_inputs(Case(1, 1, 1, 1)), max_weight=max_weight)
