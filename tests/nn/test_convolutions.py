"""Encoders and decoders on the 3x3 op against the layers they stand for."""

import pytest
import torch
from torch import nn

from rirn.nn import ConvSequential, ResBlock
from rirn.nn.convolutions import conv1x1
from rirn.ops import available_backends, use_backend

needs_kernel = pytest.mark.skipif(
    "cpu" not in available_backends("conv3x3_chain"), reason="there is no CPU kernel of conv3x3_chain"
)


def up(channels_in, channels_out, kernel):
    return nn.ConvTranspose2d(
        channels_in, channels_out, kernel, stride=2, padding=1, output_padding=4 - kernel
    )


def conv(channels_in, channels_out, kernel, stride=1):
    return nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2)


LAYERS = {
    "conv3": lambda: [conv(3, 5, 3)],
    "conv3 down": lambda: [conv(3, 5, 3, 2)],
    "conv5": lambda: [conv(3, 5, 5)],
    "conv5 down": lambda: [conv(3, 5, 5, 2)],
    "up3": lambda: [up(3, 5, 3)],
    "up4": lambda: [up(3, 5, 4)],
    "rectified": lambda: [conv(3, 5, 3), nn.ReLU(), up(5, 4, 4), nn.LeakyReLU(0.1)],
    "twice rectified": lambda: [conv(3, 5, 3), nn.LeakyReLU(0.1), nn.LeakyReLU(0.1)],
    "encoder": lambda: [conv(3, 5, 5), conv(5, 6, 5, 2), nn.ReLU(), conv(6, 7, 3, 2)],
    "decoder": lambda: [up(3, 6, 3), up(6, 5, 3), conv(5, 3, 5)],
    "with others": lambda: [nn.ReLU(), conv(3, 4, 1), conv(4, 4, 5), ResBlock(4), up(4, 3, 3), nn.GELU()],
    "left alone": lambda: [
        nn.Conv2d(3, 3, 3, padding=1, groups=3),
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, (3, 5), padding=(1, 2)),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 3, 4, stride=2),
    ],
}


def pair(name, dtype=torch.float64):
    """The layers run one by one, and run together; the same parameters."""
    torch.manual_seed(0)
    plain = nn.Sequential(*LAYERS[name]()).to(dtype)
    return plain, ConvSequential(*plain)


def outcome(modules, x):
    """Result and all gradients."""
    out = modules(x)
    weights = torch.linspace(-1, 1, out.numel()).to(out).view_as(out)
    return [out, *torch.autograd.grad((out * weights).sum(), [x, *modules.parameters()])]


@needs_kernel
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [(8, 12), (4, 4), (7, 12), (8, 11)])
def test_gives_the_numbers_of_its_layers(name, size):
    plain, together = pair(name)
    x = torch.randn(2, 3, *size, dtype=torch.float64).requires_grad_()
    expected = outcome(plain, x)
    with use_backend("cpu"):
        found = outcome(together, x)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert ((a - b).abs() <= 1e-12 * (1 + b.abs().max())).all()


@needs_kernel
@pytest.mark.parametrize("name", ["encoder", "decoder", "with others"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_in_single_precision(name, layout):
    plain, together = pair(name, torch.float32)
    x = torch.randn(1, 3, 12, 20).contiguous(memory_format=layout).requires_grad_()
    expected = outcome(plain.double(), x.double().detach().requires_grad_())
    together.float()
    with use_backend("cpu"):
        found = outcome(together, x)
    for a, b in zip(found, expected, strict=True):
        assert ((a - b).abs() <= 2e-5 * b.abs().max()).all()


@needs_kernel
def test_runs_convolutions_in_as_few_calls_as_possible():
    _, together = pair("encoder", torch.float32)
    with (
        torch.no_grad(),
        use_backend("cpu"),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        together(torch.randn(1, 3, 12, 20))
    calls = {e.key: e.count for e in profile.key_averages()}
    assert calls["rirn::conv3x3_chain"] == 2  # 5x5 and the first of stride 2, in phases; then the second
    assert "aten::convolution" not in calls


@needs_kernel
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_conv1x1_is_the_convolution_of_the_concatenation(layout):
    torch.manual_seed(0)
    layer = nn.Conv2d(9, 6, 1)
    inputs = [torch.randn(2, c, 3, 5).contiguous(memory_format=layout).requires_grad_() for c in (4, 2, 3)]
    expected = layer(torch.cat(inputs, 1))
    tensors = [*inputs, layer.weight, layer.bias]
    grad = torch.randn_like(expected)
    with use_backend("cpu"):
        found = conv1x1(inputs, layer)
    torch.testing.assert_close(found, expected)
    for a, b in zip(*(torch.autograd.grad(out, tensors, grad) for out in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_parameters_have_the_names_that_a_sequence_gives_them():
    plain, together = pair("decoder")
    assert list(plain.state_dict()) == list(together.state_dict())


def test_leaves_the_reference_to_the_layers():
    plain, together = pair("encoder")
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    with use_backend("reference"):
        assert torch.equal(plain(x), together(x))
