"""Names, options, messages, and what it takes to add a base network."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from rirn import RirnError, State, create_model, model_names
from rirn.models.base import BaseNetwork
from rirn.models.registry import BASELINES, BASES
from rirn.models.window import Window


class Toy(BaseNetwork):
    """The smallest base network: one convolution for everything, and h_t = f_t."""

    stride: ClassVar[int] = 1

    def __init__(self, *, width: float = 1.0, channels: int = 4):
        super().__init__()
        self.channels = {"features": channels, "hidden": channels}
        self.state_channels = (channels,)
        self.encoder = nn.Conv2d(3, channels, 3, padding=1)
        self.decoder = nn.Conv2d(channels, 3, 3, padding=1)

    def stem(self, frames):
        return (self.encoder(frames),)

    def encode(self, stem, state):
        return {"features": stem[0] + state[0] / 2}

    def update(self, tensors, stem, state):
        return {"hidden": tensors["features"]}, (tensors["features"],)

    def head(self, x):
        return self.decoder(x)

    @property
    def input_layers(self):
        return [self.encoder]

    @property
    def output_layer(self):
        return self.decoder


@pytest.mark.parametrize("addition", ["", "+control", "+irm", "+atb", "+rirn"])
def test_a_new_base_needs_one_line_in_the_registry(monkeypatch, addition):
    monkeypatch.setitem(BASES, "toy", Toy)
    assert f"toy{addition}" in model_names()
    model = create_model(f"toy{addition}", channels=6, residual=True)
    clip = torch.rand(2, 3, 3, 5, 7)
    assert torch.equal(model(clip), clip)
    model.base.output_layer.reset_parameters()
    whole, state = model(clip, return_state=True)
    assert (whole - clip).abs().max() > 0
    again = None
    for frame, image in zip(clip.unbind(1), whole.unbind(1), strict=True):
        sharp, again = model.step(frame, again)
        assert torch.allclose(sharp, image, atol=1e-6)
    for name, tensor in state.tensors().items():
        assert torch.allclose(again.tensors()[name], tensor, atol=1e-6)


class Around(Toy):
    """A head that reads f_t and h_t of three frames."""

    head_reads: ClassVar[tuple[str, ...]] = ("features", "hidden")

    def __init__(self, *, width: float = 1.0, channels: int = 4):
        super().__init__(channels=channels)
        self.feature_window = Window(past=1, future=1)
        self.decoder = nn.Conv2d(3 * 2 * channels, 3, 3, padding=1)


@pytest.mark.parametrize("addition", ["", "+control", "+irm", "+atb", "+rirn"])
def test_a_window_of_features_goes_with_every_addition(monkeypatch, addition, tmp_path):
    monkeypatch.setitem(BASES, "around", Around)
    model = create_model(f"around{addition}").double()
    clip = torch.rand(2, 5, 3, 6, 7, dtype=torch.float64)
    whole = model(clip)
    assert whole.shape == clip.shape and model.delay == 1
    images, state = [], None
    for frame in clip.unbind(1):
        image, state = model.step(frame, state)
        images += [] if image is None else [image]
        state.save(tmp_path / "state")
        state = State.load(tmp_path / "state")
    assert torch.allclose(torch.stack(images + model.flush(state), 1), whole, rtol=0, atol=1e-12)
    model.recompute = True
    assert torch.equal(model(clip), whole)
    with pytest.raises(ValueError, match="does not fit frames"):
        model.step(clip[:, 0, :, :4], state)


def test_a_state_of_another_size_starts_with_zeros_of_it(monkeypatch):
    class Coarse(Toy):
        multiple: ClassVar[int] = 2

        def __init__(self, *, width: float = 1.0):
            super().__init__()
            self.state_channels, self.state_strides = (4, 4), (1, 2)

        def update(self, tensors, stem, state):
            features = tensors["features"]
            slow = (state[1] + nn.functional.avg_pool2d(features, 2)) / 2
            return {"hidden": features}, (features, slow)

    monkeypatch.setitem(BASES, "coarse", Coarse)
    clip = torch.rand(1, 3, 3, 5, 6)
    restored, state = create_model("coarse")(clip, return_state=True)
    assert restored.shape == clip.shape
    assert [list(t.shape) for t in state.base] == [[1, 4, 6, 6], [1, 4, 3, 3]]


def test_names():
    names = model_names()
    assert len(names) == len(set(names)) == 5 * len(BASES) + len(BASELINES)
    for base in ("ifi-rnn", "strcnn", "stfan", "rdbn", "mmp-rnn", "gru", "lstm"):
        assert {base, f"{base}+rirn", f"{base}+irm", f"{base}+atb", f"{base}+control"} <= set(names)
    assert {"ifi-rnn+dtb", "rdbn+dtb", "rdbn+gsa", "estrnn"} <= set(names)


def test_config_makes_the_model_again():
    model = create_model("rdbn+rirn", width=0.25, blocks=2, residual=True)
    config = dict(model.config)
    again = create_model(config.pop("name"), **config)
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("rdbn+rinr", {}, "there is no model 'rdbn+rinr'; did you mean 'rdbn+rirn'?"),
        ("estrnn+rirn", {}, "there is no model 'estrnn+rirn'; did you mean 'strcnn+rirn'?"),
        ("xyz", {}, "there is no model 'xyz'; there are ifi-rnn, ifi-rnn+control"),
        ("rdbn", {"block": 3}, "model 'rdbn' has no option 'block'; did you mean 'blocks'?"),
        ("gru", {"blocks": 3}, "model 'gru' has no option 'blocks'"),
        ("rdbn+gsa", {"future": 2}, "model 'rdbn+gsa' has no option 'future'"),
        ("gru", {"width": 0}, "width must lie in (0, 8]; got 0"),
        ("gru", {"width": float("nan")}, "width must lie in (0, 8]; got nan"),
        ("ifi-rnn", {"variant": "C0H1"}, "ifi-rnn has no variant 'C0H1'; write it as CxHy"),
        ("rdbn", {"blocks": 0}, "blocks must be at least 1; got 0"),
        ("strcnn", {"ends": "repeat"}, "ends must be 'replicate' or 'drop'; got 'repeat'"),
        ("strcnn", {"dtb": "mine"}, "there is no DTB variant 'mine'; there are ovd, estrnn-repo"),
        ("estrnn", {"past": 0, "future": 0}, "past and future must not be negative, nor both 0; got 0 and 0"),
    ],
)
def test_messages(name, options, message):
    with pytest.raises(RirnError) as caught:
        create_model(name, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_atb_decay_needs_atb_and_is_remembered():
    assert create_model("gru+atb", width=0.2, atb_decay=0.97).atb.decay == 0.97
    assert create_model("gru+atb", width=0.2, atb_decay=0.97).config["atb_decay"] == 0.97
    assert "atb_decay" not in create_model("gru+atb", width=0.2).config  # as in files of earlier versions
    with pytest.raises(RirnError, match="atb_decay is an option of models with ATB, which 'gru' has not"):
        create_model("gru", atb_decay=0.97)
    with pytest.raises(RirnError, match=r"atb_decay must lie in \(0, 1\]; got 1.5"):
        create_model("gru+atb", atb_decay=1.5)
