"""Parameters and arithmetic of models, against figures counted on public code or worked out by hand."""

import pytest

from rirn import RirnError, create_model
from rirn.models import summary

# name, parameters, GMACs of a frame of 1280x720, delay
COSTS = [
    ("ifi-rnn", 836_623, 55.41, 0),
    ("ifi-rnn+control", 960_063, 62.51, 0),
    ("ifi-rnn+irm", 1_041_083, 67.16, 0),
    ("ifi-rnn+dtb", 1_286_544, 81.31, 0),
    ("ifi-rnn+atb", 1_427_743, 89.42, 0),
    ("ifi-rnn+rirn", 1_508_763, 94.07, 0),
    ("strcnn", 926_084, 230.39, 2),
    ("strcnn+rirn", 1_236_067, 301.64, 2),
    ("stfan", 5_372_547, 496.97, 0),
    ("stfan+rirn", 9_962_499, 761.21, 0),
    ("rdbn", 1_996_731, 139.58, 0),
    ("rdbn+irm", 2_171_995, 149.65, 0),
    ("rdbn+atb", 2_587_531, 173.57, 0),
    ("rdbn+gsa", 2_319_291, 158.83, 0),
    ("rdbn+rirn", 2_639_675, 176.56, 0),
    ("estrnn", 2_467_931, 180.65, 2),
    ("mmp-rnn", 2_932_941, 181.56, 2),
    ("mmp-rnn+rirn", 3_575_885, 218.54, 2),
    ("gru", 853_043, 56.36, 0),
    ("gru+rirn", 993_503, 64.42, 0),
    ("lstm", 860_263, 56.77, 0),
    ("lstm+rirn", 1_000_723, 64.83, 0),
]


@pytest.mark.parametrize("name, parameters, gmacs, delay", COSTS, ids=[row[0] for row in COSTS])
def test_costs(name, parameters, gmacs, delay):
    (row,) = summary([name])
    assert (row.name, row.parameters, row.delay) == (name, parameters, delay)
    assert f"{row.gmacs:.2f}" == f"{gmacs:.2f}"


@pytest.mark.parametrize(
    "name, option, parameters, gmacs",
    [
        ("rdbn", {"blocks": 9}, 1_292_187, 99.06),
        # Public code (207.54) encodes the same frame anew in each of three passes of the second cell.
        ("ifi-rnn", {"variant": "C2H3"}, 1_635_683, 188.65),
    ],
)
def test_costs_of_options(name, option, parameters, gmacs):
    (row,) = summary([name], **option)
    assert row.parameters == parameters
    assert f"{row.gmacs:.2f}" == f"{gmacs:.2f}"


@pytest.mark.parametrize(
    "name, floats",
    [
        # per pixel of the frame: channels at a quarter of the size count 1/16 each
        ("ifi-rnn", 20 / 16),
        ("ifi-rnn+rirn", (20 + 20 + 80) / 16),
        ("rdbn+gsa", (16 + 2 * 80) / 16),
        ("estrnn", (16 + 4 * 80) / 16 + 2 * 3),
        ("mmp-rnn+rirn", (16 + 32 + 16 + 80 + 4 * 80) / 16 + 2 * 3),
        ("strcnn", (32 + 64) / 4 + 2 * 3 + 4 * 3),  # frames that wait, frames that are read together
        ("stfan", 128 / 16 + 2 * 3),
        ("lstm+irm", 3 * 20 / 16),
    ],
)
def test_state_size(name, floats):
    (row,) = summary([name], frame_size=(48, 64))
    assert row.state_mib == floats * 48 * 64 * 4 / 2**20


def test_all_models_by_default(monkeypatch):
    monkeypatch.setattr("rirn.models.costs.model_names", lambda: ["gru", "lstm+irm"])
    assert [row.name for row in summary(frame_size=(16, 16), width=0.1)] == ["gru", "lstm+irm"]


def test_width_scales_the_channels():
    half, full = (create_model("rdbn+rirn", width=width) for width in (0.5, 1.0))
    shapes = zip(half.state_dict().values(), full.state_dict().values(), strict=True)
    assert all(h.shape[0] in (f.shape[0] // 2, 3) for h, f in shapes)


def test_unknown_name():
    with pytest.raises(RirnError, match="did you mean 'rdbn'"):
        summary(["rdbm"])
