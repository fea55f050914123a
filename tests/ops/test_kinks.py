"""ReLUs whose input is zero but for rounding: what of their gradient is promised, and how the tests of drawn calls find them."""

import pytest
import torch
import torch.nn.functional as F

from rirn.ops import conv3x3_chain
from tests.ops.kinks import Kinks
from tests.tolerances import TABLE, assert_close


def image_with_nothing_in_it(size=24):
    """Random pixels on the left, zeros on the right of a column amid a tile of Winograd's."""
    image = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(0))
    image[..., size // 2 - 2 :] = 0
    return image


def test_the_gradient_is_that_of_the_result_returned(fused):
    """Where nothing is and no bias either, a convolution is exactly zero in truth, and about zero in a transform. ReLU may open
    there, but then for the gradient as for the result."""
    backend, device = fused("conv3x3_chain")
    weight = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(1)).to(device) / 6
    bias = torch.zeros(4, device=device, requires_grad=True)
    image = image_with_nothing_in_it().to(device).requires_grad_()
    result = conv3x3_chain([image], [weight], [bias], [0.0], [False], backend=backend)
    grad = torch.randn(result.shape, generator=torch.Generator().manual_seed(2)).to(device)
    found = torch.autograd.grad(result, (image, bias), grad)

    let_through = (grad * (result > 0)).cpu().double()
    want = F.conv_transpose2d(let_through, weight.cpu().double(), padding=1), let_through.sum((0, 2, 3))
    for name, got, expected in zip(("image", "bias"), found, want, strict=True):
        assert_close(got.cpu(), expected, TABLE["conv3x3_chain", "gradient", "fp32"], name)


@pytest.mark.parametrize(
    ("bias", "rounding", "expected"),
    [(0.0, 1e-6, True), (1e-8, 1e-6, True), (0.1, 1e-6, False), (1e-8, 1e-12, False)],
)
def test_kinks_are_found(bias, rounding, expected):
    kinks = Kinks(rounding)
    image = image_with_nothing_in_it().double()
    with kinks:
        torch.relu(
            F.conv2d(image, torch.ones(1, 4, 3, 3).double(), torch.full((1,), bias).double(), padding=1)
        )
    assert bool(kinks.found) is expected


def test_nothing_at_all_is_no_kink():
    """Zeros alone round to zero."""
    kinks = Kinks(1e-6)
    with kinks:
        torch.relu(F.conv2d(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 3, 3), torch.zeros(1), padding=1))
    assert not kinks.found
