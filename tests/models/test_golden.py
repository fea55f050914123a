"""Every network against golden numbers: weights and input from one formula, outputs known to 1e-6.

The rows of IFI-RNN, STRCNN + DTB, RDBN, RDBN + GSA, ESTRNN, MMP-RNN and STFAN come from running the public code
(zzh-tech/ESTRNN, sollynoay/MMP-RNN, sczhou/STFAN), the others from a separate implementation of the same design. Each row: mean
and standard deviation over all frames; the last frame at [0, 0, 0], [1, 16, 16], [2, 31, 31]; the first frame
at [0, 5, 7].
"""

import pytest
import torch

from rirn import create_model
from tests import golden


def ifi(base):
    return [part for cell in base.cells[:-1] for part in (cell.encoder, cell.trunk, cell.update)] + [
        base.cells[-1].encoder,
        base.cells[-1].trunk,
        base.decoder,
        base.cells[-1].update,
    ]


def strcnn(base):
    dtb = [] if base.dtb is None else [base.dtb]
    return [base.encoder, base.encoder_trunk, *dtb, base.decoder_trunk, base.decoder, base.state_update]


def rdbn(base):
    gsa = [base.gsa] if hasattr(base, "gsa") else []
    return [base.encoder, base.trunk, base.state_update, base.decoder, *gsa]


def mmp_rnn(base):
    cell = [base.first, base.guide, base.encoder, base.trunk, base.state_update, base.motion]
    attention = [] if base.fusion.attention is None else [base.fusion.attention]
    return [*cell, base.head_trunk, base.decoder, base.fusion.condense, *attention]


def stfan(base):
    heads = [base.kernel_net, base.align_head, base.squeeze, base.deblur_head]
    return [base.state_update, base.encoder, base.decoder, *heads]


def gated(base):
    return [base.encoder, base.cell, base.decoder]


ORDER = {
    "ifi-rnn": ifi,
    "strcnn": strcnn,
    "stfan": stfan,
    "rdbn": rdbn,
    "estrnn": rdbn,
    "mmp-rnn": mmp_rnn,
    "gru": gated,
    "lstm": gated,
}


def filled(name, **options):
    """Return a model with golden weights, in float64, and the number of tensors that were filled."""
    model = create_model(name, **options).double().eval()
    added = [part for part in (model.irm, model.atb, model.dtb, model.fuse) if part is not None]
    return model, golden.fill_([*ORDER[name.partition("+")[0]](model.base), *added])


def row(clip):
    """Return the six numbers of a clip [1, T, 3, 32, 32]."""
    first, last = clip[0, 0], clip[0, -1]
    numbers = [
        clip.mean(),
        clip.std(unbiased=False),
        last[0, 0, 0],
        last[1, 16, 16],
        last[2, 31, 31],
        first[0, 5, 7],
    ]
    return torch.stack(numbers)


def assert_numbers(got, expected, tolerance=1e-6):
    got, expected = torch.as_tensor(got), torch.tensor(expected, dtype=torch.float64)
    assert (got - expected).abs().le(tolerance).all(), got.tolist()


DROP = {"ends": "drop"}
# name, options, frames in, frames out, tensors, row
ROWS = [
    ("ifi-rnn", {}, 5, 5, 44, [0.040677849, 0.029089009, 0.044096681, 0.013191741, 0.097937562, 0.031340608]),
    (
        "ifi-rnn",
        {"variant": "C2H3"},
        *(5, 5, 82),
        [-0.016932508, 0.068892192, 0.078648974, -0.088621530, -0.041004142, 0.034187525],
    ),
    (
        "strcnn",
        DROP,
        8,
        4,
        44,
        [0.031652807, 0.037551644, 0.024482771, 0.078187454, -0.012334979, 0.023414156],
    ),
    (
        "strcnn",
        {"dtb": "estrnn-repo", **DROP},
        *(8, 4, 44),
        [0.031796318, 0.037436331, 0.024528892, 0.077669617, -0.010400252, 0.023195765],
    ),
    ("rdbn", {}, 5, 5, 164, [0.041768550, 0.063237520, 0.085230381, -0.077107804, 0.078936437, 0.095412934]),
    (
        "rdbn+gsa",
        DROP,
        5,
        3,
        176,
        [0.040445734, 0.060457343, 0.097499454, -0.073830148, 0.083269743, 0.095278756],
    ),
    (
        "estrnn",
        DROP,
        5,
        1,
        176,
        [0.041005733, 0.058156866, 0.097980299, -0.047477756, 0.079033761, 0.081757686],
    ),
    (
        "mmp-rnn",
        DROP,
        *(6, 2, 226),
        [0.031046864, 0.070302988, 0.047979192, 0.093472182, 0.005313854, 0.074100324],
    ),
    (
        "mmp-rnn",
        {},
        *(5, 5, 226),
        [0.031039932, 0.070298275, 0.047962965, 0.094465684, 0.005321647, 0.074258527],
    ),
    (
        "mmp-rnn+rirn",
        {},
        *(5, 5, 254),
        [0.031022713, 0.070366923, 0.047776493, 0.093635671, 0.005511507, 0.075502101],
    ),
    (
        "mmp-rnn",
        {"attention": False, **DROP},
        *(6, 2, 222),
        [0.031045965, 0.070348874, 0.048147559, 0.092925264, 0.005092381, 0.073436356],
    ),
    (
        "stfan",
        {"clamp_feedback": False},
        *(5, 5, 110),
        [-0.003307997, 0.288242789, 0.465614424, 0.118169609, -0.409434477, 0.359701464],
    ),
    (
        "ifi-rnn+rirn",
        {},
        5,
        5,
        72,
        [0.041825004, 0.025235401, 0.057845447, 0.029398664, 0.099364490, 0.046262726],
    ),
    ("gru", {}, 5, 5, 42, [0.020071230, 0.040876643, -0.030486161, 0.065136584, -0.001348736, -0.030694974]),
    ("lstm", {}, 5, 5, 40, [0.038461651, 0.027259805, 0.030644181, 0.072514799, 0.007314057, 0.040433835]),
    (
        "ifi-rnn+control",
        {},
        5,
        5,
        50,
        [0.041999027, 0.025939202, 0.061210934, 0.011356882, 0.099222001, 0.012592915],
    ),
    (
        "ifi-rnn+irm",
        {},
        5,
        5,
        62,
        [0.043445571, 0.024839549, 0.068135093, 0.038972197, 0.107478538, 0.023747982],
    ),
    (
        "ifi-rnn+atb",
        {},
        5,
        5,
        60,
        [0.042307886, 0.025205314, 0.069528127, 0.049070715, 0.109883319, 0.020411811],
    ),
    (
        "ifi-rnn+dtb",
        {},
        5,
        5,
        52,
        [0.041286988, 0.024967038, 0.059349705, 0.024819538, 0.092457524, 0.017962671],
    ),
    (
        "rdbn+rirn",
        {},
        5,
        5,
        192,
        [0.042134397, 0.062140700, 0.085724185, -0.057387406, 0.074090575, 0.108839851],
    ),
    (
        "gru+rirn",
        {},
        5,
        5,
        70,
        [0.020835867, 0.038687959, -0.025117362, 0.081304649, -0.001965730, -0.017046896],
    ),
    (
        "lstm+rirn",
        {},
        5,
        5,
        68,
        [0.038650678, 0.027301226, 0.031456930, 0.080606442, 0.010403484, 0.028687302],
    ),
    (
        "strcnn+rirn",
        DROP,
        8,
        4,
        66,
        [0.040834901, 0.029318442, 0.036964096, 0.070856909, -0.013287622, 0.054885546],
    ),
    (
        "strcnn+rirn",
        {},
        5,
        5,
        66,
        [0.040995587, 0.029255229, 0.037028241, 0.069805939, -0.013581042, 0.054239544],
    ),
    ("strcnn", {}, 5, 5, 44, [0.031597716, 0.037633945, 0.024618760, 0.078755395, -0.013076977, 0.023547239]),
    (
        "stfan+rirn",
        {"clamp_feedback": False},
        *(5, 5, 134),
        [-0.002429401, 0.288280194, 0.465404848, 0.121673589, -0.409325693, 0.359519476],
    ),
    (
        "estrnn",
        {},
        5,
        5,
        176,
        [0.040989683, 0.058182412, 0.098811918, -0.053216085, 0.079468034, 0.079699815],
    ),
    (
        "rdbn+gsa",
        {},
        5,
        5,
        176,
        [0.040456366, 0.060482830, 0.097499454, -0.073830148, 0.083269743, 0.096936892],
    ),
]
IDS = ["-".join([name, *(f"{k}={v}" for k, v in options.items())]) for name, options, *_ in ROWS]


@pytest.mark.parametrize("name, options, frames, out, tensors, numbers", ROWS, ids=IDS)
@torch.no_grad()
def test_clip(name, options, frames, out, tensors, numbers):
    model, count = filled(name, **options)
    assert count == tensors
    restored = model(golden.clip(frames) + 0.5)
    assert restored.shape == (1, out, 3, 32, 32)
    assert_numbers(row(restored - 0.5), numbers)


@pytest.mark.parametrize(
    "name, numbers",
    [
        ("ifi-rnn", {"base.0": [-0.011118, 0.069857]}),
        ("rdbn", {"base.0": [0.013471, 0.081412]}),
        ("ifi-rnn+rirn", {"inner": [0.014711745, 0.078213978], "blended": [-0.002546468, 0.175967074]}),
    ],
)
@torch.no_grad()
def test_state_after_five_frames(name, numbers):
    model, _ = filled(name)
    _, state = model(golden.clip(5) + 0.5, return_state=True)
    for tensor, expected in numbers.items():
        found = state.tensors()[tensor]
        assert_numbers(torch.stack([found.mean(), found.std(unbiased=False)]), expected)
