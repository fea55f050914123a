"""What the modules promise beyond their numbers: initial values, small sizes, gradients, messages."""

import pytest
import torch
import torch.nn.functional as F

from rirn import RirnError, ops
from rirn.nn import ATB, DTB, GSA, ConvLSTM, Fuse
from rirn.ops.spec import OPS
from tests.ops.calls import arguments
from tests.ops.cases import Case


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def test_lstm_starts_out_remembering():
    bias = ConvLSTM(3, 4).gates.bias
    assert (bias[4:8] == 1).all() and (bias[8:] != 1).all() and (bias[:4] != 1).all()


@pytest.mark.parametrize("size", [(1, 1), (4, 9), (5, 5), (7, 6)])
def test_dtb_of_the_estrnn_repository_copies_the_outer_frame(size):
    module = DTB(4, variant="estrnn-repo")
    f_cur, f_prev = torch.randn(2, 4, *size), torch.randn(2, 4, *size)
    blended = module(f_prev=f_prev, f_cur=f_cur)
    inside = torch.zeros(size, dtype=torch.bool)
    inside[2:-2, 2:-2] = True
    assert torch.equal(blended[..., ~inside], f_prev[..., ~inside])
    assert not torch.isclose(blended[..., inside], f_prev[..., inside]).any()


def test_dtb_beta_of_one_means_no_blending():
    module = DTB(4)
    torch.nn.init.ones_(module.beta)
    f_cur, f_prev = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)
    assert torch.equal(module(f_prev=f_prev, f_cur=f_cur), f_cur)
    assert module.beta.requires_grad


def test_dtb_variant_unknown():
    with pytest.raises(RirnError, match="no DTB variant 'ovdd'; there are ovd, estrnn-repo"):
        DTB(4, variant="ovdd")


def test_gsa_reads_the_reference_and_every_neighbour():
    module = GSA(4, frames=3, reference=1)
    features = [torch.randn(1, 4, 3, 3, requires_grad=True) for _ in range(3)]
    out = module(features)
    assert out.shape == (1, 12, 3, 3)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(out.square().sum(), features))


def test_fuse_starts_as_the_identity_on_the_first_tensor():
    fuse = Fuse(7, 4, blocks=2)
    fuse.init_identity()
    first = torch.randn(1, 4, 5, 5)
    assert torch.equal(fuse([first, torch.randn(1, 3, 5, 5)]), first)


def test_fac_is_the_convolution_where_all_filters_are_equal():
    features, weight = random(2, 3, 6, 7), random(3, 1, 5, 5, seed=1)
    kernels = weight.reshape(1, 75, 1, 1).expand(2, 75, 6, 7)
    padded = F.pad(features, (2, 2, 2, 2), mode="replicate")
    assert (ops.fac(features, kernels) - F.conv2d(padded, weight, groups=3)).abs().max() <= 1e-12


def test_fac_equals_its_definition_on_an_unfolded_input():
    features, kernels = random(2, 2, 3, 4), random(2, 50, 3, 4, seed=1)
    unfolded = F.unfold(F.pad(features, (2, 2, 2, 2), mode="replicate"), 5).reshape(2, 2, 25, 3, 4)
    expected = (unfolded * kernels.reshape(2, 2, 25, 3, 4)).sum(2)
    assert (ops.fac(features, kernels) - expected).abs().max() <= 1e-12


def tensors(op):
    return [t.requires_grad_() for t in arguments(op, Case(1, 2, 3, 3, "fp64"))]


POINTWISE = [name for name, op in OPS.items() if op.operations and set(op.kinds) == {"Tensor"}]


@pytest.mark.parametrize("op", POINTWISE)
def test_gradients(op):
    assert torch.autograd.gradcheck(getattr(ops, op), tensors(op))


@pytest.mark.parametrize("op", POINTWISE)
def test_half_precision_rounds_once(op):
    inputs = [t.detach().bfloat16() for t in tensors(op)]
    got, truth = (getattr(ops, op)(*(t.to(d) for t in inputs)) for d in (torch.bfloat16, torch.float64))
    for half, exact in zip(*(out if isinstance(out, tuple) else (out,) for out in (got, truth)), strict=True):
        assert half.dtype == torch.bfloat16
        assert (half.double() - exact).abs().le(exact.abs() / 2**8 + 1e-6).all()


def test_messages():
    x = torch.zeros(1, 2, 3, 3)
    with pytest.raises(ValueError, match=r"kernels must be \[N, 25C, H, W\].*got \[1, 2, 3, 3\]"):
        ops.fac(x, x)


def test_atb_decay_bounds_the_blended_feature():
    torch.manual_seed(0)
    atb = ATB(4, decay=0.9)
    for branch in (atb.branch_prev, atb.branch_cur):
        torch.nn.init.constant_(branch.conv2.bias, 50)  # both gates at their bounds
    f_cur, f_prev = torch.rand(1, 4, 5, 6), torch.zeros(1, 4, 5, 6)
    with torch.no_grad():
        weight_prev, weight_cur = atb.maps(f_prev=f_prev, f_cur=f_cur)
        assert weight_prev.max() == pytest.approx(0.9) and weight_cur.max() == 1
        for _ in range(200):
            f_prev = atb(f_prev=f_prev, f_cur=f_cur)
    torch.testing.assert_close(f_prev, 10 * f_cur)  # the sum of 0.9^k
