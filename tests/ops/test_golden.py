"""Golden rows of the two modules, rebuilt from the ops and plain convolutions; computed by a separate implementation."""

import pytest
import torch
import torch.nn.functional as F

from rirn.ops import atb_blend, irm_update
from tests import golden

A, B = (golden.tensor((1, 20, 8, 8), k) - 0.5 for k in (1001, 1002))
BACKENDS = ["reference", None]


def filled(*shapes):
    """Return weights and biases of convolutions with these weight shapes, numbered as the fill rule says."""
    weights = [golden.weight(shape, 2 * i) for i, shape in enumerate(shapes)]
    biases = [golden.bias(shape[0], 2 * i + 1) for i, shape in enumerate(shapes)]
    return weights, biases


def row(x):
    return [x.mean(), x.std(unbiased=False), x[0, 0, 0, 0], x[0, 19, 4, 5]]


def assert_row(x, expected):
    got = torch.stack(row(x))
    assert (got - torch.tensor(expected, dtype=torch.float64)).abs().le(1e-6).all(), got.tolist()


def test_fill_rule():
    got = golden.u(torch.arange(5), 0)
    assert (got - torch.tensor([0.740085, 0.564395, 0.454749, 0.272401, 0.823449])).abs().le(1e-6).all()
    clip = golden.clip(2)
    assert clip.shape == (1, 2, 3, 32, 32)
    assert (clip.flatten()[:4] - torch.tensor([0.1544, -0.0408, 0.4082, 0.4736])).abs().le(1e-4).all()


def test_fill_counts_tensors():
    layers = [torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Linear(4, 5, bias=False)]
    layers = [layer.double() for layer in layers]
    assert golden.fill_(layers) == 3
    assert torch.equal(layers[0].bias, golden.bias(3, 1))
    assert torch.equal(layers[2].weight, golden.weight((5, 4), 2))
    assert torch.equal(layers[1].weight, torch.ones(3).double())


@pytest.mark.parametrize("backend", BACKENDS)
def test_irm(backend):
    weights, biases = filled(*[(40, 40, 3, 3)] * 5, (20, 40, 3, 3))
    assert_row(
        irm_update(A, B, weights, biases, backend=backend),
        [-0.040246260, 0.113850577, 0.027465437, 0.023319183],
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_atb(backend):
    weights, biases = filled((40, 40, 3, 3), *[(20, 20, 3, 3)] * 4)

    def conv(x, i):
        return F.conv2d(x, weights[i], biases[i], padding=1)

    def branch(x, i):
        return conv(F.leaky_relu(conv(x, i), 0.1), i + 1)

    u_prev, u_cur = conv(torch.cat([A, B], 1), 0).chunk(2, 1)
    out = atb_blend(B, A, branch(u_prev, 1), branch(u_cur, 3), backend=backend)
    assert_row(out, [0.000605138, 0.202632762, 0.069091660, 0.110450277])
