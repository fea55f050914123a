"""Initial weights of residual models."""

import pytest
import torch
from torch import nn

import rirn
from rirn.models.init import preserve_variance_


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 24, 3, padding=1),
        nn.Conv2d(3, 32, 5, stride=2, padding=2),
        nn.Conv2d(16, 16, 3, padding=1, groups=4),
        nn.ConvTranspose2d(16, 24, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(16, 24, 4, stride=2, padding=1),
    ],
    ids=str,
)
def test_a_layer_keeps_the_variance(layer):
    torch.manual_seed(0)
    preserve_variance_(layer)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        out = layer(torch.randn(4, layer.in_channels, 64, 64))[..., 4:-4, 4:-4]
    assert out.var().item() == pytest.approx(1, abs=0.25)  # PyTorch's own start gives a third


def test_features_of_a_deep_network_keep_their_size():
    frame = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sizes = {}
    for residual in (False, True):
        torch.manual_seed(0)
        model = rirn.create_model("ifi-rnn", width=0.6, residual=residual)
        with torch.no_grad():
            sizes[residual] = model.base.cells[0].encoder(frame - 0.5).std().item() / frame.std().item()
    assert 0.5 < sizes[True] < 2 and sizes[False] < 0.5 * sizes[True]


def test_a_residual_model_starts_as_the_identity_whatever_the_base():
    clip = torch.rand(1, 3, 3, 16, 20)
    for name in ("ifi-rnn+rirn", "gru+rirn", "lstm", "rdbn+rirn"):
        model = rirn.create_model(name, width=0.2, residual=True).eval()
        with torch.no_grad():
            torch.testing.assert_close(model(clip), clip)


def test_the_forget_gate_stays_open():
    model = rirn.create_model("lstm", width=0.2, residual=True)
    cell = next(m for m in model.modules() if hasattr(m, "gates"))
    channels = cell.gates.bias.numel() // 4
    assert (cell.gates.bias[channels : 2 * channels] == 1).all()
