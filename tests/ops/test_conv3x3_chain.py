"""conv3x3_chain on every fused backend against the reference in float64."""

import sys
from dataclasses import dataclass

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rirn.ops import conv3x3_chain, use_backend, why_not
from rirn.ops._library import library
from rirn.ops.conv3x3_chain import NARROWEST, NARROWEST_WITH_GRADIENT, runs_kernel
from tests.ops import rounded
from tests.ops.calls import reference
from tests.ops.cases import Case, image, lay_out_parameter, like_truth, randn
from tests.ops.contract import isas
from tests.tolerances import TABLE, assert_close, row_of

chain_module = sys.modules["rirn.ops.conv3x3_chain"]  # the package's attribute of this name is the function
needs_library = pytest.mark.skipif(not library().loaded, reason=str(library().reason))


@dataclass(frozen=True)
class Chain:
    """Channels of the inputs and of each layer's result, and what the layers do besides."""

    reads: tuple[int, ...]
    channels: tuple[int, ...]
    slopes: tuple[float, ...]
    skips: tuple[bool, ...]
    unshuffle: bool = False
    shuffle: bool = False

    def inputs(self, case, device="cpu"):
        """Images, weights and biases of the sizes, dtype and layout of ``case``; its own channels are not used."""
        generator = torch.Generator().manual_seed(0)
        images = [image(c, case, generator, device) for c in self.reads]
        ins = (sum(self.reads) * (4 if self.unshuffle else 1), *self.channels)
        shapes = [(o, i, 3, 3) for i, o in zip(ins, self.channels, strict=False)]
        weights = [
            randn(*s, case=case, generator=generator, device=device, scale=(9 * s[1]) ** -0.5) for s in shapes
        ]
        biases = [randn(s[0], case=case, generator=generator, device=device, scale=0.1) for s in shapes]
        return images, weights, biases

    @property
    def shuffles(self):
        return {"unshuffle": self.unshuffle, "shuffle": self.shuffle}

    def __str__(self):
        text = f"{'+'.join(map(str, self.reads))}to{'-'.join(map(str, self.channels))}"
        return text + "-unshuffle" * self.unshuffle + "-shuffle" * self.shuffle


ONE = Chain((3, 2), (7,), (1,), (False,))
RES = Chain((4,), (4, 4), (0, 1), (False, True))
GATE = Chain((5,), (6, 5), (0.1, 1), (False, False))
ACTIVATED = Chain((3,), (5, 4), (1, 0.1), (False, False))
RECTIFIED = Chain((3,), (5,), (0,), (False,))
BLOCKS = Chain((4,), (4, 4, 4, 4), (0, 0, 0, 0.1), (False, True, False, True))
DOWN = Chain((2, 1), (5, 3), (0.1, 1), (False, False), unshuffle=True)
UP = Chain((3,), (5, 8), (0, 0.1), (False, False), shuffle=True)
PHASES = Chain((2,), (8, 8, 4), (0, 1, 1), (False, True, False), unshuffle=True, shuffle=True)
UPDATE = Chain((10,), (4, 4, 4, 4), (1, 0, 1, 1), (False, False, True, False))
WIDE = Chain((40, 12), (52, 52), (0.1, 1), (False, True))
CHAINS = [ONE, RES, GATE, ACTIVATED, RECTIFIED, BLOCKS, UPDATE]
CASES = [
    *((c, Case(2, 0, 7, 5, dtype, "contiguous")) for c in CHAINS for dtype in ("fp32", "fp16", "bf16")),
    *((c, Case(2, 0, 7, 5, "fp32", "channels_last")) for c in CHAINS),
    *(
        (UPDATE, Case(3, 0, 11, 13, "fp32", layout))
        for layout in ("sliced", "strided", "transposed", "expanded")
    ),
    *(
        (c, Case(2, 0, 6, width, dtype, layout))
        for c in (DOWN, UP, PHASES)
        for width in (10, 134)
        for dtype, layout in (("fp32", "contiguous"), ("fp32", "channels_last"), ("bf16", "sliced"))
    ),
    (RES, Case(1, 0, 1, 1)),
    (UPDATE, Case(1, 0, 1, 17, "bf16", "channels_last")),
    (RES, Case(0, 0, 3, 3)),
    (WIDE, Case(1, 0, 19, 67)),
    (WIDE, Case(1, 0, 19, 67, "bf16", "strided")),
]
cases = pytest.mark.parametrize(("chain", "case"), CASES, ids=str)


def run(chain, parts, backend, grad=None):
    out = conv3x3_chain(*parts, chain.slopes, chain.skips, **chain.shuffles, backend=backend)
    if grad is None:
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out)
    return out, torch.autograd.grad(out, [t for part in parts for t in part], grad), grad


def truth(chain, parts, grad):
    wide = [like_truth(part) for part in parts]
    out = reference.conv3x3_chain(*wide, chain.slopes, chain.skips, **chain.shuffles)
    return out, torch.autograd.grad(out, [t for part in wide for t in part], grad.cpu().double())


def check(chain, case, backend, device, parts=None):
    parts = chain.inputs(case, device) if parts is None else parts
    out, grads, grad = run(chain, parts, backend)
    want, want_grads = truth(chain, parts, grad)
    assert out.dtype == parts[0][0].dtype
    if case.layout in ("contiguous", "channels_last"):
        like = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[case.layout]
        assert out.is_contiguous(memory_format=like)
    if backend == "cuda":
        return check_rounded(chain, case, parts, out, grads, grad)
    op = row_of("conv3x3_chain", backend, case.dtype)
    assert_close(out.cpu(), want, TABLE[op, "output", case.dtype], "output")
    for i, (got, expected) in enumerate(zip(grads, want_grads, strict=True)):
        assert_close(got.cpu(), expected, TABLE[op, "gradient", case.dtype], f"gradient {i}")


def check_rounded(chain, case, parts, out, grads, grad):
    """The CUDA kernels round every layer."""
    wide = [like_truth(part) for part in parts]
    want = rounded.chain(*wide, chain.slopes, chain.skips, **chain.shuffles, dtype=parts[0][0].dtype)
    rounded.assert_close_to_rounded("conv3x3_chain", "output", case, out.cpu(), want, "output")
    want_grads = torch.autograd.grad(want, [t for part in wide for t in part], grad.cpu().double())
    for i, (got, expected) in enumerate(zip(grads, want_grads, strict=True)):
        rounded.assert_close_to_rounded(
            "conv3x3_chain", "gradient", case, got.cpu(), expected, f"gradient {i}"
        )


@cases
def test_against_reference(chain, case, fused):
    check(chain, case, *fused("conv3x3_chain"))


@pytest.mark.parametrize("chain", [ONE, RES], ids=str)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_parameters_in_any_layout(chain, dtype, fused):
    backend, device = fused("conv3x3_chain")
    case = Case(2, 0, 5, 7, dtype)
    images, weights, biases = chain.inputs(case, device)
    check(
        chain, case, backend, device, (images, *(list(map(lay_out_parameter, p)) for p in (weights, biases)))
    )


def test_partial_gradients(fused):
    backend, device = fused("conv3x3_chain")
    wanted = {0, 3, 6}  # the first image, the second layer's weight, the first layer's bias
    chain = Chain((2, 3), (4, 4), (0, 1), (False, False))
    parts = chain.inputs(Case(2, 0, 5, 4), device)
    flat = [t for part in parts for t in part]
    for i, t in enumerate(flat):
        t.requires_grad_(i in wanted)
    out = conv3x3_chain(*parts, chain.slopes, chain.skips, **chain.shuffles, backend=backend)
    out.backward(torch.ones_like(out))
    _, want = truth(chain, parts, torch.ones_like(out))
    for i, t in enumerate(flat):
        assert (t.grad is not None) == (i in wanted)
        if t.grad is not None:
            assert_close(t.grad.cpu(), want[i], TABLE["conv3x3_chain", "gradient", "fp32"], str(i))


@pytest.mark.parametrize("chain", [RECTIFIED, ACTIVATED], ids=str)
def test_gradients_pass_a_result_that_is_nan(chain, fused):
    """ReLU lets them through there, leaky ReLU scales them."""
    backend, device = fused("conv3x3_chain")
    parts = chain.inputs(Case(1, 0, 3, 4), device)
    parts[2][-1].data[1] = torch.nan  # a channel of the result
    out = conv3x3_chain(*parts, chain.slopes, chain.skips, backend=backend)
    wide = [like_truth(part) for part in parts]
    want = reference.conv3x3_chain(*wide, chain.slopes, chain.skips)
    assert torch.equal(out.isnan().cpu(), want.isnan())
    (found,), (expected,) = (
        torch.autograd.grad(result, last, torch.ones_like(result))
        for result, last in ((out, parts[2][-1]), (want, wide[2][-1]))
    )
    assert expected[1].isfinite() and expected[1] > 0
    assert_close(found.cpu(), expected, TABLE["conv3x3_chain", "gradient", "fp32"], "bias")


@needs_library
@pytest.mark.parametrize("chain", [*CHAINS, DOWN, UP], ids=str)
@pytest.mark.parametrize(
    ("dtype", "layout"), [("fp32", "channels_last"), ("fp64", "strided"), ("bf16", "contiguous")]
)
def test_opcheck(chain, dtype, layout):
    parts = chain.inputs(Case(2, 0, 4, 6, dtype, layout))
    rest = [list(map(float, chain.slopes)), list(map(int, chain.skips)), *chain.shuffles.values()]
    torch.library.opcheck(torch.ops.rirn.conv3x3_chain.default, (*parts, *rest))
    parts = [[t.detach() for t in part] for part in parts]
    grad = torch.randn_like(conv3x3_chain(*parts, chain.slopes, chain.skips, **chain.shuffles))
    for output_mask in (1, 2 ** sum(map(len, parts)) - 1):
        torch.library.opcheck(
            torch.ops.rirn.conv3x3_chain_backward.default, (grad, *parts, *rest, output_mask)
        )


@needs_library
@pytest.mark.parametrize(
    ("slopes", "count", "message"),
    [
        ([1.0], 2, "biases, slopes and skips must be one for each of 2 weights"),
        ([1.0] * 31, 31, "at most 62 tensors; got 1 inputs and 31 layers"),
    ],
)
def test_the_compiled_op_checks_its_own_arguments(slopes, count, message):
    images, weights, biases = Chain((2,), (2,) * count, (1,) * count, ()).inputs(Case(1, 0, 3, 3))
    with pytest.raises(RuntimeError, match=message):
        torch.ops.rirn.conv3x3_chain(images, weights, biases, slopes, [0] * count, False, False)


@pytest.mark.parametrize(("chain", "case"), CASES[-2:], ids=str)
@pytest.mark.parametrize("isa", isas())
def test_every_variant(isa, chain, case, monkeypatch):
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    check(chain, case, "cpu", "cpu")


@needs_library
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_weights_are_packed_by_their_values(dtype):
    """Packed weights are kept from call to call, and must not outlive a change of the weights."""
    (x,), (w,), (b,) = Chain((4,), (4,), (1,), (False,)).inputs(Case(1, 4, 9, 11, dtype))
    x, w, b = x.detach(), w.detach(), b.detach()

    def run(weight):
        leaves = [
            x.clone().requires_grad_(),
            weight.clone(memory_format=torch.preserve_format).requires_grad_(),
        ]
        with use_backend("cpu"):
            out = conv3x3_chain([leaves[0]], [leaves[1]], [b], [1.0], [False])
        return out.detach(), *torch.autograd.grad(out.sum(), leaves)

    def assert_same(got, want):
        for a, c in zip(got, want, strict=True):
            assert torch.equal(a, c)

    first = run(w)
    place = w.data_ptr()
    w.mul_(2)  # a power of two: nothing is rounded
    assert w.data_ptr() == place
    out, grad_x, grad_w = run(w)
    b_alone = run(torch.zeros_like(w))[0]
    torch.testing.assert_close(out - b_alone, 2 * (first[0] - b_alone), rtol=1e-2, atol=1e-2)
    assert_same((grad_x, grad_w), (2 * first[1], first[2]))
    assert_same(run(w / 2), first)
    assert_same(run(w.to(memory_format=torch.channels_last)), (out, grad_x, grad_w))


@needs_library
@pytest.mark.parametrize("chain", [RES, UPDATE], ids=str)
def test_gradcheck_of_the_compiled_op(chain):
    small = Chain((1,), (2,) * len(chain.channels), chain.slopes, chain.skips) if chain is UPDATE else chain
    images, weights, biases = small.inputs(Case(1, 0, 3, 2, "fp64"))
    n = len(weights)

    def call(*flat):
        parts = (flat[:1], flat[1 : 1 + n], flat[1 + n :])
        return conv3x3_chain(*parts, small.slopes, small.skips, backend="cpu")

    assert torch.autograd.gradcheck(call, (*images, *weights, *biases))


def test_second_derivative_of_fused_is_refused(fused):
    backend, device = fused("conv3x3_chain")
    parts = RES.inputs(Case(1, 0, 3, 3), device)
    out = conv3x3_chain(*parts, RES.slopes, RES.skips, backend=backend)
    (grad,) = torch.autograd.grad(out.square().sum(), parts[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        grad.sum().backward()


def test_repeats_bit_for_bit_on_any_number_of_threads(fused, threads):
    backend, device = fused("conv3x3_chain")
    results = []
    for count in (1, 2, 2):
        threads(count)
        out, grads, _ = run(WIDE, WIDE.inputs(Case(2, 0, 23, 19), device), backend)
        results.append([out, *grads])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_library
def test_compiled_training_step():
    def step(*parts):
        return conv3x3_chain(*parts, UPDATE.slopes, UPDATE.skips, backend="cpu").square().mean()

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for size in ((6, 9), (7, 11)):
        parts = UPDATE.inputs(Case(2, 0, *size))
        flat = [t for part in parts for t in part]
        got, want = (torch.autograd.grad(f(*parts), flat) for f in (compiled, step))
        for a, b in zip(got, want, strict=True):
            assert_close(a, b, TABLE["conv3x3_chain", "gradient", "fp32"])


@needs_library
@pytest.mark.parametrize(
    ("count", "columns", "gradient", "dtype", "fused"),
    [
        (1, NARROWEST, False, "fp32", True),
        (1, NARROWEST - 1, False, "fp32", False),
        (2, NARROWEST // 2, False, "fp32", True),
        (1, NARROWEST_WITH_GRADIENT, True, "fp32", True),
        (1, NARROWEST_WITH_GRADIENT - 1, True, "bf16", False),
        (2, NARROWEST_WITH_GRADIENT // 2, True, "bf16", True),
        (2, 64, False, "fp64", False),
    ],
)
def test_auto_takes_the_library_where_that_is_faster(count, columns, gradient, dtype, fused):
    parts = RES.inputs(Case(count, 0, 2, columns, dtype))
    with torch.set_grad_enabled(gradient), torch.profiler.profile() as profile:
        conv3x3_chain(*parts, RES.slopes, RES.skips, backend="auto")
    assert ("rirn::conv3x3_chain" in {event.key for event in profile.key_averages()}) == fused


@pytest.mark.parametrize(
    ("dtype", "channels", "gradient", "unshuffle", "fused"),
    [
        (torch.float16, 64, False, False, True),
        (torch.bfloat16, 3, False, False, True),
        (torch.float16, 65, False, False, False),
        (torch.float32, 16, False, False, False),
        (torch.bfloat16, 16, True, False, True),
        (torch.bfloat16, 16, False, True, False),
    ],
)
@pytest.mark.parametrize("size", [10, 3], ids=["10x10", "as large as weights"])
def test_what_auto_leaves_to_the_library_on_cuda(
    dtype, channels, gradient, unshuffle, fused, size, monkeypatch
):
    monkeypatch.setattr(chain_module, "choose", lambda *arguments: "cuda")
    monkeypatch.setattr(chain_module, "is_auto", lambda backend: True)
    with FakeTensorMode():
        image = torch.empty(1, 16, size, size, dtype=dtype, device="cuda")
        weight = torch.empty(channels, 16, 3, 3, dtype=dtype, device="cuda", requires_grad=gradient)
        assert runs_kernel([image], [weight], in_phases=unshuffle) == fused


def test_parameters_do_not_count_as_inputs_on_cuda(monkeypatch):
    """Nine layers on images of 3x3, and nine inputs."""
    monkeypatch.setattr(chain_module, "choose", lambda *arguments: "cuda")
    monkeypatch.setattr(chain_module, "is_auto", lambda backend: True)
    with FakeTensorMode():
        image, weight = (torch.empty(n, 16, 3, 3, dtype=torch.float16, device="cuda") for n in (1, 16))
        assert runs_kernel([image], [weight] * 9)
        assert not runs_kernel([image] * 9, [weight])


def test_autocast_casts_everything():
    parts = RES.inputs(Case(1, 0, 5, 4))
    with torch.autocast("cpu", torch.bfloat16):
        assert conv3x3_chain(*parts, RES.slopes, RES.skips).dtype == torch.bfloat16


def with_changed(**changes):
    images, weights, biases = RES.inputs(Case(1, 0, 4, 4))
    arguments = {
        "inputs": images,
        "weights": weights,
        "biases": biases,
        "slopes": [0, 1],
        "skips": [False, True],
    }
    return arguments | changes


@pytest.mark.parametrize("backend", ["reference", None])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": []}, "at least one input .* got 0 inputs"),
        ({"inputs": [torch.ones(1, 0, 4, 4)]}, "inputs must have at least 1 channel together"),
        ({"slopes": [0]}, "got 1 inputs and 2, 2, 1, 2 of these"),
        ({"inputs": [torch.ones(1, 5, 4, 4)]}, r"weights\[0\] must be \[out, 5, 3, 3\]"),
        ({"inputs": [torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 5)]}, r"inputs\[1\] must have the N, H, W"),
        ({"inputs": [torch.ones(1, 4, 4, 4).double()]}, r"weights\[0\] must have the dtype of inputs\[0\]"),
        (
            {"biases": [torch.ones(4), torch.ones(3)]},
            r"biases\[1\] must be \[4\] for weights\[1\]; got \[3\]",
        ),
        ({"slopes": [-0.5, 1]}, r"slopes must be finite and not negative"),
        ({"slopes": [float("nan"), 1]}, r"slopes must be finite and not negative"),
        (
            {"weights": [torch.ones(4, 4, 3, 3), torch.ones(0, 4, 3, 3)]},
            r"weights\[1\] must be .* out at least 1",
        ),
        ({"inputs": [torch.ones(1, 1, 4, 5)], "unshuffle": True}, "must have even H and W"),
        (
            {
                "weights": [torch.ones(6, 4, 3, 3)],
                "biases": [torch.ones(6)],
                "slopes": [1],
                "skips": [0],
                "shuffle": True,
            },
            "a multiple of 4 channels to shuffle; got 6",
        ),
        ({"skips": [True, False], "slopes": [1, 1]}, r"skips\[0\] needs a layer before it"),
    ],
)
def test_errors_name_rule_and_value(changes, message, backend):
    with pytest.raises(ValueError, match=message):
        conv3x3_chain(**with_changed(**changes), backend=backend)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_an_empty_batch_goes_to_phases_and_back(backend):
    """torch's own pixel_unshuffle returns it as it is."""
    if backend == "cpu" and why_not("cpu", "conv3x3_chain", "cpu"):
        pytest.skip("no CPU kernels")
    x = torch.zeros(0, 3, 4, 6, requires_grad=True)
    weight, bias = torch.rand(8, 12, 3, 3, requires_grad=True), torch.rand(8, requires_grad=True)
    out = conv3x3_chain([x], [weight], [bias], [0], [False], unshuffle=True, shuffle=True, backend=backend)
    assert out.shape == (0, 2, 4, 6)
    grads = torch.autograd.grad(out.sum(), (x, weight, bias))
    assert grads[0].shape == x.shape and not any(g.any() for g in grads)
