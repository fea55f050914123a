"""Initial weights of residual models."""

import pytest
import torch
from torch import nn

import rirn
from rirn.models.init import preserve_variance_
from rirn.models.strcnn import NormResBlock


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


def frame_with_edges():
    """Patches of one colour, [1, 3, 64, 64] in [0, 1]."""
    return (
        torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        .repeat_interleave(8, 2)
        .repeat_interleave(8, 3)
    )


def test_features_of_a_deep_network_keep_their_size():
    frame = frame_with_edges()
    sizes = {}
    for residual in (False, True):
        torch.manual_seed(0)
        model = rirn.create_model("ifi-rnn", width=0.6, residual=residual)
        with torch.no_grad():
            sizes[residual] = model.base.cells[0].encoder(frame - 0.5).std().item() / frame.std().item()
    assert 0.5 < sizes[True] < 3 and sizes[False] < 0.5 * sizes[True]


@pytest.mark.parametrize("base", rirn.models.registry.BASES)
def test_first_layers_of_a_residual_model_do_not_see_brightness(base):
    """All that read frames are among ``input_layers``: brighter frames give the same features, but at the zero padding."""
    changes = {}
    for residual in (False, True):
        torch.manual_seed(0)
        model = rirn.create_model(base, width=0.2, residual=residual).eval()
        frames = [frame_with_edges(), frame_with_edges() + 0.3]
        frames = [torch.cat([f] * model.base.stem_window.size, 1) for f in frames]
        with torch.no_grad():
            dark, bright = (
                [
                    conv(torch.cat([f] * (conv.in_channels // f.shape[1]), 1))
                    for conv in model.base.input_layers
                ]
                for f in frames
            )
        assert dark
        changes[residual] = max(
            (a - b)[..., 4:-4, 4:-4].abs().max().item() for a, b in zip(dark, bright, strict=True)
        )
        readers = [m for m in model.base.modules() if isinstance(m, nn.Conv2d) and m.in_channels % 3 == 0]
        assert set(model.base.input_layers) <= set(readers)
    assert changes[True] < 1e-4 < 1e-3 < changes[False]


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


def test_blocks_with_norms_start_as_identities():
    block = NormResBlock(8)
    x = torch.rand(2, 8, 6, 7)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    torch.testing.assert_close(block.eval()(x), x, rtol=0, atol=0)


def test_residual_stfan_starts_with_filters_that_change_nothing():
    base = rirn.create_model("stfan", width=0.2, residual=True).base
    stem = base.stem(torch.rand(1, 3, 16, 24) - 0.5)
    state = base.initial_state(stem)
    tensors = base.encode(stem, state)
    torch.testing.assert_close(tensors["features"], stem[0], rtol=0, atol=0)
    torch.testing.assert_close(tensors["aligned"], state[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["stfan+control", "stfan+rirn"])
def test_fusing_layers_of_a_residual_stfan_start_by_passing_on_what_its_head_reads(name):
    model = rirn.create_model(name, width=0.2, residual=True)
    assert model.reads[:2] == list(model.base.head_reads)
    channels = model.fuse.fuse.in_channels // len(model.reads)
    reads = [torch.rand(1, channels, 4, 6) for _ in model.reads]
    torch.testing.assert_close(model.fuse(reads), torch.cat(reads[:2], 1), rtol=0, atol=0)
