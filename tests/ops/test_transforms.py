"""Every op under torch.func and in forward mode: the derivatives of the reference in float64, or a refusal, never zeros."""

import warnings

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from rirn.ops import backends, use_backend
from rirn.ops.spec import OPS
from tests.ops.calls import arguments, call, reference
from tests.ops.cases import Case
from tests.ops.contract import as_tuple
from tests.tolerances import TABLE, assert_close

CASE = Case(2, 2, 3, 5, "fp64", max_weight=1.3)


class Subject:
    """An op as a function of its tensors alone, fused and as the reference has it, with tensors and directions."""

    def __init__(self, op, backend, device="cpu", case=CASE):
        args = arguments(op, case, device)
        leaves, self.spec = tree_flatten(args)
        self.op, self.backend, self.leaves = op, backend, leaves
        self.places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self.tensors = tuple(leaves[i] for i in self.places)
        generator = torch.Generator().manual_seed(7)
        self.directions, self.others = (
            tuple(torch.randn(t.shape, generator=generator).to(t) for t in self.tensors) for _ in range(2)
        )

    def arguments(self, tensors):
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        return tree_unflatten(leaves, self.spec)

    def fused(self, *tensors):
        return as_tuple(call(self.op, self.arguments(tensors), self.backend))

    def plain(self, *tensors):
        return as_tuple(getattr(reference, self.op)(*self.arguments(tensors)))

    def stacked(self, count, dim=0):
        """The first ``count`` tensors three times with other values, stacked along ``dim``, and the rest as it is."""
        steps = (1, 0.5, -0.7)
        made = [torch.stack([s * t for s in steps], min(dim, t.dim())) for t in self.tensors[:count]]
        return (*made, *self.tensors[count:])


def loss(f):
    return lambda *x: sum(out.sin().sum() for out in f(*x))


def every(x):
    return tuple(range(len(x)))


def with_dual_numbers(f, x, v, w):
    with forward_ad.dual_level():
        found = [forward_ad.unpack_dual(out) for out in f(*map(forward_ad.make_dual, x, v))]
        return [(primal.clone(), tangent.clone()) for primal, tangent in found]


def slope_along(f, v):
    return lambda *x: jvp(f, x, v)[1]


TRANSFORMS = {
    "dual numbers": with_dual_numbers,
    "jvp": lambda f, x, v, w: jvp(f, x, v),
    "jvp in one tensor": lambda f, x, v, w: [
        jvp(lambda t, i=i: f(*x[:i], t, *x[i + 1 :]), (x[i],), (v[i],)) for i in every(x)
    ],
    "linearize": lambda f, x, v, w: linearize(f, *x)[1](*v),
    "jacfwd": lambda f, x, v, w: jacfwd(f, len(x) - 1)(*x),
    "jvp of jvp": lambda f, x, v, w: jvp(slope_along(f, v), x, w),
    "grad of jvp": lambda f, x, v, w: grad(loss(slope_along(f, v)), every(x))(*x),
    "grad": lambda f, x, v, w: grad(loss(f), every(x))(*x),
    "grad in the last tensor": lambda f, x, v, w: grad(loss(f), len(x) - 1)(*x),
    "vjp": lambda f, x, v, w: vjp(f, *x)[1](tuple(out.cos() for out in f(*x))),
    "jacrev": lambda f, x, v, w: jacrev(f, (0, len(x) - 1))(*x),
    "grad within no_grad": lambda f, x, v, w: torch.no_grad()(grad(loss(f), every(x)))(*x),
}
OF_STACKS = {
    "vmap": lambda f, x, dims: vmap(f, dims)(*x),
    "vmap of grad": lambda f, x, dims: vmap(grad(loss(f), every(x)), dims)(*x),
    "vmap of grad in the first tensor": lambda f, x, dims: vmap(grad(loss(f)), dims)(*x),
    "grad of vmap": lambda f, x, dims: grad(loss(vmap(f, dims)), every(x))(*x),
    "vmap of jvp": lambda f, x, dims: vmap(lambda *t: jvp(f, t, tuple(map(torch.cos, t))), dims)(*x),
    "jvp of vmap": lambda f, x, dims: jvp(vmap(f, dims), x, tuple(map(torch.cos, x))),
}


def check(subject, transform):
    found, wanted = (tree_leaves(transform(f)) for f in (subject.fused, subject.plain))
    assert len(found) == len(wanted) and any(want.any() for want in wanted)
    for got, want in zip(found, wanted, strict=True):
        assert_close(got, want, TABLE["torch.func", "gradient", "fp64"])


@pytest.fixture(params=OPS)
def subject(request, fused):
    return Subject(request.param, *fused(request.param))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_derivatives(subject, name):
    check(subject, lambda f: TRANSFORMS[name](f, subject.tensors, subject.directions, subject.others))


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "all stacked"])
@pytest.mark.parametrize("name", OF_STACKS)
def test_stacks(subject, name, shared):
    count = OPS[subject.op].images if shared else len(subject.tensors)
    dims = tuple(0 if i < count else None for i in every(subject.tensors))
    check(subject, lambda f: OF_STACKS[name](f, subject.stacked(count), dims))


@pytest.mark.parametrize("stacked", [0, -1])
def test_vmap_over_any_tensor_and_dimension(subject, stacked):
    """One tensor in stacks alone, of dimension 1; the others are one for all."""
    place = stacked % len(subject.tensors)
    dims = tuple(min(1, t.dim()) if i == place else None for i, t in enumerate(subject.tensors))
    x = list(subject.tensors)
    x[place] = torch.stack([x[place], -x[place], 2 * x[place]], dims[place])
    check(subject, lambda f: OF_STACKS["vmap of grad"](f, x, dims))


def test_vmap_of_vmap(subject):
    x = tuple(torch.stack([t, 2 * t], -1) for t in subject.stacked(len(subject.tensors)))
    check(subject, lambda f: vmap(vmap(f, in_dims=-1))(*x))


def test_vmap_runs_the_op_once(subject):
    """Not the fallback, which calls for each index and says so."""
    x = subject.stacked(OPS[subject.op].images)
    dims = tuple(0 if i < OPS[subject.op].images else None for i in every(x))
    torch._C._debug_only_display_vmap_fallback_warnings(True)
    try:
        with warnings.catch_warnings(), torch.profiler.profile() as profile:
            warnings.simplefilter("error")
            vmap(grad(loss(subject.fused)), dims)(*x)
    finally:
        torch._C._debug_only_display_vmap_fallback_warnings(False)
    calls = [event.name for event in profile.events() if event.name.startswith("rirn::")]
    assert 0 < len(calls) <= 2 * 3, "the op and its backward op, each at the levels of grad, vmap and none"


def test_an_autocast_region_changes_nothing_about_the_tangent(subject):
    subject.tensors = tuple(t.float() for t in subject.tensors)
    directions = tuple(t.float() for t in subject.directions)
    with torch.autocast(subject.tensors[0].device.type, torch.bfloat16):
        found = jvp(subject.fused, subject.tensors, directions)[1]
    x, v = (tuple(t.bfloat16() for t in both) for both in (subject.tensors, directions))
    for got, want in zip(found, jvp(subject.fused, x, v)[1], strict=True):
        assert torch.equal(got, want) and got.dtype == torch.bfloat16


SECOND = {
    "grad of grad": lambda f, x, v: grad(lambda *t: sum(g.sum() for g in grad(loss(f), every(t))(*t)))(*x),
    "jvp of grad": lambda f, x, v: jvp(grad(loss(f), every(x)), x, v),
    "hessian": lambda f, x, v: hessian(loss(f))(*x),
}


@pytest.mark.parametrize("name", SECOND)
def test_a_derivative_of_a_gradient_is_refused(subject, name):
    with pytest.raises(
        RuntimeError, match=f"{subject.op} on a fused backend .* once only.*backend='reference'"
    ):
        SECOND[name](subject.fused, subject.tensors, subject.directions)
    subject.backend = "reference"
    check(subject, lambda f: SECOND[name](f, subject.tensors, subject.directions))


@pytest.mark.parametrize("op", OPS)
def test_the_torch_ops_keep_tangents_without_the_public_functions(op):
    if backends.why_not("cpu", op) is not None:
        pytest.skip(backends.why_not("cpu", op))
    subject = Subject(op, "cpu")
    torch_op = getattr(torch.ops.rirn, op)
    subject.fused = lambda *tensors: as_tuple(torch_op(*subject.arguments(tensors)))
    check(subject, lambda f: TRANSFORMS["jvp"](f, subject.tensors, subject.directions, None))
    args = arguments(op, CASE, backward=True)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="once only"):
        getattr(torch.ops.rirn, f"{op}_backward")(
            *tree_map_only(torch.Tensor, lambda t: forward_ad.make_dual(t, torch.ones_like(t)), args)
        )


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("op", OPS)
def test_the_choice_of_backend_keeps_derivatives(op, backend):
    subject = Subject(op, None)
    with use_backend(backend):
        for name in ("jvp", "jacfwd", "grad"):
            check(subject, lambda f, t=TRANSFORMS[name]: t(f, subject.tensors, subject.directions, None))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("name", ["grad", "jvp", "vmap of grad"])
def test_transforms_within_torch_compile(subject, name, backend):
    torch.compiler.reset()  # the ops share their functions, which torch compiles for so many kinds of arguments only
    x, v, dims = subject.tensors, subject.directions, every(subject.tensors)
    transform = {
        "grad": lambda f: torch.compile(grad(loss(f), dims), backend=backend, fullgraph=True)(*x),
        "jvp": lambda f: torch.compile(lambda *t: jvp(f, t, v), backend=backend, fullgraph=True)(*x),
        "vmap of grad": lambda f: torch.compile(vmap(grad(loss(f), dims)), backend=backend, fullgraph=True)(
            *subject.stacked(len(x))
        ),
    }[name]
    check(subject, transform)
