"""RIRN around cells that are no base network."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

import rirn
from rirn import RirnError
from rirn.models.gated import GRU
from rirn.nn import RIRN, ConvGRU, Fuse, RIRNState


class Cell(nn.Module):
    """A GRU, whose state is given out as ``wrap`` makes it."""

    def __init__(self, features=6, hidden=4, wrap=lambda h: h, unwrap=lambda s: s):
        super().__init__()
        self.encoder = nn.Conv2d(2, features, 3, padding=1)
        self.gru = ConvGRU(features, hidden)
        self.hidden, self.wrap, self.unwrap = hidden, wrap, unwrap

    def forward(self, frame, state):
        features = self.encoder(frame)
        empty = features.new_zeros(len(frame), self.hidden, *frame.shape[2:])
        hidden = self.gru(features, empty if state is None else self.unwrap(state))
        return features, hidden, self.wrap(hidden)


def made(**options):
    torch.manual_seed(0)
    return RIRN(Cell(), nn.Conv2d(6, 2, 3, padding=1), features=6, hidden=4, **options).double()


def frames(count=4):
    return torch.rand(count, 3, 2, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_it_is_the_three_equations():
    net, state = made(max_weight=2.0, decay=0.9), None
    hidden = inner = torch.zeros(3, 4, 9, 7, dtype=torch.float64)
    blended = torch.zeros(3, 6, 9, 7, dtype=torch.float64)
    for frame in frames():
        output, state = net(frame, state)
        features = net.cell.encoder(frame)
        hidden = net.cell.gru(features, hidden)
        inner = net.irm(hidden=hidden, inner=inner)
        kept, taken = net.atb.maps(f_prev=blended, f_cur=features)
        blended = kept * blended + taken * features
        expected = net.head(net.fuse([features, hidden, inner, blended]))
        for got, wanted in zip((output, *state), (expected, hidden, inner, blended), strict=True):
            assert (got - wanted).abs().max() <= 1e-12
    assert taken.max() > 1 > kept.max()


@torch.no_grad()
def test_around_the_gru_of_this_package_it_is_gru_plus_rirn():
    model = rirn.create_model("gru+rirn", width=0.2).double().eval()
    base: GRU = model.base

    class Around(nn.Module):
        def forward(self, frame, state):
            features = base.encoder(frame - 0.5)
            hidden = base.cell(features, torch.zeros_like(features) if state is None else state)
            return features, hidden, hidden

    c = base.channels["features"]
    net = RIRN(Around(), base.decoder, features=c, hidden=c, out_channels=2 * c).double()
    parts = {"irm": model.irm, "atb": model.atb, "fuse": model.fuse}
    for name, part in parts.items():
        getattr(net, name).load_state_dict(part.state_dict())
    clip, state = torch.rand(1, 4, 3, 8, 12, dtype=torch.float64), None
    for frame, wanted in zip(clip.unbind(1), model(clip).unbind(1), strict=True):
        image, state = net(frame, state)
        assert (image + 0.5 - wanted).abs().max() <= 1e-12


@pytest.mark.parametrize(("irm", "atb", "width"), [(True, False, 14), (False, True, 16), (False, False, 10)])
def test_each_module_may_be_left_out(irm, atb, width):
    net, state = made(irm=irm, atb=atb, blocks=0), None
    for frame in frames(2):
        output, state = net(frame, state)
    assert isinstance(net.fuse, Fuse) and net.fuse.fuse.in_channels == width and len(net.fuse.blocks) == 0
    assert (state.inner is not None, state.blended is not None) == (irm, atb)
    assert output.shape == (3, 2, 9, 7)


class Two(NamedTuple):
    h: torch.Tensor
    age: int


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda h: h, lambda s: s),
        (lambda h: [h, (h, None)], lambda s: s[0]),
        (lambda h: {"h": h}, lambda s: s["h"]),
        (lambda h: Two(h, 1), lambda s: s.h),
    ],
)
def test_a_state_of_any_form_is_detached(wrap, unwrap):
    net = made()
    net.cell.wrap, net.cell.unwrap = wrap, unwrap
    output, state = net(frames()[0])
    cut = state.detach()
    assert isinstance(cut, RIRNState) and type(cut.cell) is type(state.cell)
    assert unwrap(state.cell).requires_grad and state.inner.requires_grad and state.blended.requires_grad
    assert not (unwrap(cut.cell).requires_grad or cut.inner.requires_grad or cut.blended.requires_grad)
    again, _ = net(frames()[1], cut)
    again.sum().backward()
    assert output.requires_grad and net.irm.joint.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("features", "hidden"),
    [((3, 5, 9, 7), (3, 4, 9, 7)), ((3, 6, 9, 7), (3, 4, 9, 8)), ((3, 6, 9), (3, 4, 9))],
)
def test_what_a_cell_returns_is_checked(features, hidden):
    class Wrong(nn.Module):
        def forward(self, frame, state):
            return torch.zeros(features), torch.zeros(hidden), None

    net = made()
    net.cell = Wrong()
    with pytest.raises(
        ValueError, match=r"the cell must return f_t \[N, 6, H, W\] and h_t \[N, 4, H, W\]; got \[3, "
    ):
        net(frames()[0])


def test_max_weight_is_an_option_of_models(tmp_path):
    model = rirn.create_model("gru+atb", width=0.2, atb_max_weight=2.0)
    assert model.atb.max_weight == 2 and model.config["atb_max_weight"] == 2
    rirn.save_weights(model, tmp_path / "w.safetensors")
    assert rirn.load(tmp_path / "w.safetensors").atb.max_weight == 2
    for value in (0, 9, float("nan"), -1):
        with pytest.raises(RirnError, match=r"atb_max_weight must lie in \(0, 8\]; got"):
            rirn.create_model("gru+atb", atb_max_weight=value)
    with pytest.raises(
        RirnError, match="atb_max_weight is an option of models with ATB, which 'gru' has not"
    ):
        rirn.create_model("gru", atb_max_weight=2.0)
    with pytest.raises(RirnError, match="did you mean 'atb_max_weight'"):
        rirn.create_model("gru+atb", max_weight=2.0)
