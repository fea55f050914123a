"""Modules and whole models under torch.func and forward-mode AD, on kernels of ours, against the reference in float64."""

import pytest
import torch
from torch.func import functional_call, grad, jacfwd, jvp, vjp, vmap
from torch.utils._pytree import tree_leaves

from rirn.nn import ATB, DTB, IRM, ConvGRU, ConvLSTM, Fuse, ResBlock
from rirn.ops import use_backend, why_not
from tests.models.cases import quick, small, video
from tests.tolerances import TABLE, assert_close

needs_kernels = pytest.mark.skipif(why_not("cpu", "atb_blend") is not None, reason="there are no CPU kernels")
MODULES = {
    "ATB": (lambda: ATB(4, decay=0.9, max_weight=1.2), {"f_prev": 4, "f_cur": 4}),
    "DTB": (lambda: DTB(4), {"f_prev": 4, "f_cur": 4}),
    "IRM": (lambda: IRM(4), {"hidden": 4, "inner": 4}),
    "ConvGRU": (lambda: ConvGRU(3, 4), {"x": 3, "hidden": 4}),
    "ConvLSTM": (lambda: ConvLSTM(3, 4), {"x": 3, "hidden": 4, "cell": 4}),
    "ResBlock": (lambda: ResBlock(4, 0.1), {"x": 4}),
}


def made(name):
    """A module or model as a function of a dictionary of its parameters and one of its inputs, with both."""
    torch.manual_seed(0)
    if name in MODULES:
        make, channels = MODULES[name]
        module = make().double()
        inputs = {key: video(1, c, 5, 6, seed=i) - 0.5 for i, (key, c) in enumerate(channels.items())}
    else:
        module, inputs = small(name), {"clip": video(1, 3, 3, 8, 12)}
    parameters = {key: p.detach() for key, p in module.named_parameters()}
    return (lambda p, x: tree_leaves(functional_call(module, p, (), x))), parameters, inputs


def loss(f):
    return lambda p, x: sum(out.sin().mean() for out in f(p, x))


def like(tensors):
    return {key: torch.cos(50 * t) for key, t in tensors.items()}


def stack(tensors):
    return {key: torch.stack([t, t.flip(-1)]) for key, t in tensors.items()}


TRANSFORMS = {
    "grad": lambda f, p, x: grad(loss(f), (0, 1))(p, x),
    "vjp": lambda f, p, x: vjp(loss(f), p, x)[1](torch.ones((), dtype=torch.float64)),
    "jvp": lambda f, p, x: jvp(f, (p, x), (like(p), like(x))),
    "jvp in the inputs": lambda f, p, x: jvp(lambda x: f(p, x), (x,), (like(x),)),
    "jacfwd": lambda f, p, x: jacfwd(lambda s: f(p, {key: s * t for key, t in x.items()}))(
        torch.ones((), dtype=torch.float64)
    ),
    "vmap of grad": lambda f, p, x: vmap(grad(loss(f)), (None, 0))(p, stack(x)),
    "vmap": lambda f, p, x: vmap(f, (None, 0))(p, stack(x)),
    "vmap of parameters": lambda f, p, x: vmap(f, (0, None))(stack(p), x),
}


def check(name, transform, backend):
    found, wanted = [], []
    for leaves, chosen in ((found, backend), (wanted, "reference")):
        with use_backend(chosen):
            leaves += tree_leaves(TRANSFORMS[transform](*made(name)))
    assert len(found) == len(wanted) and any(want.any() for want in wanted)
    for got, want in zip(found, wanted, strict=True):
        assert_close(got, want, TABLE["torch.func of models", "gradient", "fp64"])


@needs_kernels
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", MODULES)
def test_modules(name, transform):
    check(name, transform, "cpu")


@needs_kernels
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", quick("gru+rirn"))
def test_models(name, transform):
    check(name, transform, "cpu")


@pytest.mark.parametrize("name", ["IRM", "ATB", "gru+rirn"])
@pytest.mark.parametrize("transform", ["jvp", "grad"])
def test_the_choice_of_auto(name, transform):
    check(name, transform, "auto")


def test_vmap_over_one_of_the_images_that_are_fused():
    """On the way that sums products of single precision in place."""
    fuse, (a, b) = Fuse(8, 4, 1), torch.rand(2, 1, 4, 8, 64)
    stacked = torch.stack([b, -b])
    with torch.no_grad(), use_backend("cpu"):
        found = vmap(lambda t: fuse([a, t]))(stacked)
        want = torch.stack([fuse([a, t]) for t in stacked])
    torch.testing.assert_close(found, want)
