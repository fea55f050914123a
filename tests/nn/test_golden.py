"""The modules against golden numbers of a separate implementation, for 8x8 inputs of 20 channels, to 1e-6."""

import pytest
import torch

from rirn.nn import ATB, DTB, IRM, ConvGRU, ConvLSTM
from tests import golden

A, B, C = (golden.tensor((1, 20, 8, 8), k) - 0.5 for k in (1001, 1002, 1003))


def filled(module):
    golden.fill_(module.double())
    return module


def assert_row(x, expected):
    got = torch.stack([x.mean(), x.std(unbiased=False), x[0, 0, 0, 0], x[0, 19, 4, 5]])
    assert (got - torch.tensor(expected, dtype=torch.float64)).abs().le(1e-6).all(), got.tolist()


@torch.no_grad()
def test_irm():
    assert_row(filled(IRM(20))(hidden=A, inner=B), [-0.040246260, 0.113850577, 0.027465437, 0.023319183])


@torch.no_grad()
def test_atb():
    module = filled(ATB(20))
    blended = module(f_prev=B, f_cur=A)
    assert_row(blended, [0.000605138, 0.202632762, 0.069091660, 0.110450277])
    weight_prev, weight_cur = module.maps(f_prev=B, f_cur=A)
    assert (weight_prev * B + weight_cur * A - blended).abs().max() <= 1e-12


@pytest.mark.parametrize(
    "beta, row",
    [
        (0.0, [-0.002910392, 0.253411632, -0.150482632, -0.239614124]),
        (0.3, [0.000000333, 0.206504833, 0.021132899, -0.004967536]),
    ],
)
@torch.no_grad()
def test_dtb(beta, row):
    module = filled(DTB(20))
    module.beta.fill_(beta)
    blended = module(f_prev=B, f_cur=A)
    assert_row(blended, row)
    weight_prev, weight_cur = module.maps(f_prev=B, f_cur=A)
    assert (weight_prev + weight_cur - 1).abs().max() <= 1e-12
    assert (weight_prev * B + weight_cur * A - blended).abs().max() <= 1e-12


@torch.no_grad()
def test_gru():
    hidden = filled(ConvGRU(20, 20))(A, B)
    assert_row(hidden, [-0.007632772, 0.152943327, -0.067332821, -0.073394365])


@torch.no_grad()
def test_lstm():
    hidden, cell = filled(ConvLSTM(20, 20))(A, B, C)
    assert_row(hidden, [0.003240021, 0.078762749, -0.026539924, 0.018802847])
    assert_row(cell, [0.006536514, 0.160042460, -0.050920842, 0.031861929])
