"""A base network of one's own that does not give what it says of itself is one sentence that names the method."""

import pytest
import torch
from torch import nn

import rirn
from rirn import RirnError
from rirn.models.registry import BASES


class Right(rirn.BaseNetwork):
    """f_t and h_t at half size, a second state at a quarter, dropout, a batch norm, noise."""

    stride = 2
    state_strides = (2, 4)

    def __init__(self, *, width: float = 1.0):
        super().__init__()
        self.channels = {"features": 4, "hidden": 3}
        self.state_channels = (3, 5)
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout())
        self.slow = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.last = nn.Conv2d(4, 12, 3, padding=1)

    def stem(self, frames):
        return (self.norm(self.first(frames)) + torch.rand(()),)

    def encode(self, stem, state):
        return {"features": stem[0] + state[1].mean()}

    def update(self, tensors, stem, state):
        hidden = tensors["features"][:, :3]
        return {"hidden": hidden}, (hidden, self.slow(tensors["features"]))

    def head(self, x):
        return nn.functional.pixel_shuffle(self.last(x), 2)

    @property
    def input_layers(self):
        return [self.first]

    @property
    def output_layer(self):
        return self.last


def attribute(name, value):
    def __init__(self, *, width: float = 1.0):
        Right.__init__(self)
        setattr(self, name, value)

    return {"__init__": __init__}


def create(parts, addition="+rirn", residual=True):
    rirn.register_base("wrong")(type("Wrong", (Right,), parts))
    try:
        return rirn.create_model(f"wrong{addition}", residual=residual)
    finally:
        del BASES["wrong"]


WRONG = [
    (
        attribute("channels", {"features": 4}),
        "channels must be a dictionary with 'features' and 'hidden'; got {'features': 4}",
    ),
    (
        attribute("channels", {"features": 5, "hidden": 3}),
        "encode must return 'features' as [2, 5, 16, 16] for frames [2, 3, 32, 32]",
    ),
    (
        attribute("channels", {"features": 4, "hidden": 5}),
        "update must return 'hidden' as [2, 5, 16, 16] for frames [2, 3, 32, 32]",
    ),
    (
        attribute("state_channels", 8),
        "state_channels must be a tuple, one number for each tensor of the state; got 8",
    ),
    (
        attribute("state_channels", (3, 5, 1)),
        "state_strides must be a tuple of 3, as state_channels is; got (2, 4)",
    ),
    (
        attribute("state_channels", (3, 6)),
        "update must return the state as a tuple of tensors [[2, 3, 16, 16], [2, 6, 8, 8]]",
    ),
    ({"multiple": 2}, "multiple must be divisible by stride 2 and state_strides (2, 4); got 2"),
    (
        {"stride": 4},
        "stem must return a tuple of tensors, the first [2, c, 8, 8] for frames [2, 3, 32, 32]; got a tuple of [2, 4, 16",
    ),
    ({"stem": lambda self, frames: self.first(frames)}, "stem must return a tuple of tensors"),
    (
        {"encode": lambda self, stem, state: stem[0]},
        "encode must return a dictionary with 'features'; got [2, 4, 16, 16]",
    ),
    ({"encode": lambda self, stem, state: {"f": stem[0]}}, "with 'features'; got a dictionary with 'f'"),
    ({"update": lambda self, tensors, stem, state: {"hidden": stem[0]}}, "update must return two things"),
    (
        {"update": lambda self, tensors, stem, state: ({"hidden": state[0]}, list(state))},
        "the state as a tuple of tensors",
    ),
    (
        {"update": lambda self, tensors, stem, state: ({"hidden": state[0]}, state[:1])},
        "the state as a tuple of tensors",
    ),
    (
        {"update": lambda self, tensors, stem, state: ({"hidden": state[1]}, state)},
        "update must return 'hidden' as [2, 3, 16, 16]",
    ),
    (
        {"update": lambda self, tensors, stem, state: ({}, state)},
        "update must return a dictionary with 'hidden'",
    ),
    ({"head": lambda self, x: self.last(x)}, "head must return an image [2, 3, 32, 32]"),
    (
        {"head_reads": ("features", "own")},
        "channels must be a dictionary with 'features' and 'hidden' and 'own'",
    ),
    (
        {"input_layers": property(lambda self: self.first)},
        "input_layers must be a list of convolutions; got Conv2d(3, 4",
    ),
    (
        {"output_layer": property(lambda self: self.norm)},
        "output_layer must be a convolution; got Sequential(",
    ),
    (
        {"feeds_back": True, "feedback": lambda self, state, image: image},
        "feedback must return the state as a tuple",
    ),
]


@pytest.mark.parametrize(
    ("parts", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else ",".join(value)
)
@pytest.mark.parametrize("addition", ["", "+rirn"])
def test_what_does_not_fit_is_named(parts, message, addition):
    with pytest.raises(RirnError) as caught:
        create(parts, addition)
    assert str(caught.value).startswith("Wrong: ") and message in str(caught.value)


def test_named_tensors_that_are_read_must_be_there():
    parts = attribute("channels", {"features": 4, "hidden": 3, "own": 2})
    create(parts)  # which nothing reads
    with pytest.raises(RirnError, match="encode or update must return 'own'; got"):
        create(parts | {"fuse_reads": ("features", "own", "hidden", "inner", "blended")})


def test_a_part_that_is_missing_is_named_at_once():
    with pytest.raises(RirnError, match=r"the base network 'wrong' lacks head$"):
        create({"head": rirn.BaseNetwork.head})


def test_the_check_leaves_a_network_as_it_was():
    frozen = attribute("frozen", nn.Dropout().eval())
    torch.manual_seed(0)
    plain = type("Wrong", (Right,), frozen)()
    after = torch.rand(1)
    torch.manual_seed(0)
    model = create(frozen, "", residual=False)
    assert torch.equal(torch.rand(1), after)
    assert model.training and model.base.norm.training and not model.base.frozen.training
    assert int(model.base.norm[0].num_batches_tracked) == int(plain.norm[0].num_batches_tracked) == 0


def test_errors_of_its_own_code_keep_their_traceback():
    def encode(self, stem, state):
        return {"features": torch.cat([stem[0], state[1]], 1)}

    with pytest.raises(RuntimeError, match="Sizes of tensors must match") as caught:
        create({"encode": encode})
    if hasattr(caught.value, "add_note"):  # from Python 3.11 on
        (note,) = caught.value.__notes__
        assert (
            "encode was given a state of [[2, 3, 16, 16], [2, 5, 8, 8]]: state_channels, state_strides"
            in note
        )


@torch.no_grad()
def test_what_fits_runs():
    assert create({})(torch.rand(1, 2, 3, 13, 18)).shape == (1, 2, 3, 13, 18)
