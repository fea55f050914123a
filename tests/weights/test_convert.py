"""Checkpoints of public code: made up here with the names and shapes that the public classes have.

Filled by the rule of the golden numbers, a converted checkpoint must give what the public code gave; with any weights, what
the plain form of the same network gives.
"""

import functools
import re

import pytest
import torch
from torch import nn

import rirn
from rirn import RirnError
from rirn.weights.convert import convert, from_public
from tests import golden
from tests.models.test_golden import ROWS, assert_numbers, row
from tests.weights import public
from tests.weights.public import estrnn, ifi_rnn

EXACT = 1e-12
"""Two orders of the same float64 sums."""
PUBLIC = {
    "ifi-rnn": ifi_rnn,
    "strcnn": public.strcnn,
    "estrnn": estrnn,
    "mmp-rnn": public.mmp_rnn,
    "stfan": public.stfan,
}
COMPUTES = {  # the plain form; what is subtracted from frames in [0, 1]; their channels
    "ifi-rnn": (public.run_ifi_rnn, 0.5, "bgr"),
    "strcnn": (public.run_strcnn, 0.5, "bgr"),
    "estrnn": (public.run_estrnn, 0.5, "bgr"),
    "estrnn-simdeblur": (public.run_estrnn, 0, "rgb"),
    "mmp-rnn": (public.run_mmp_rnn, 0.5, "bgr"),
    "stfan": (public.run_stfan, 0, "bgr"),
    "stfan-simdeblur": (lambda net, clip: public.run_stfan(net.cell, clip, clamp=False), 0, "rgb"),
}
GOLDEN = {  # the row of the golden table, and the option that makes the same frames come out
    "ifi-rnn": ("ifi-rnn-variant=C2H3", {}),
    "strcnn": ("strcnn-dtb=estrnn-repo-ends=drop", {}),
    "estrnn": ("estrnn-ends=drop", {"ends": "drop"}),
    "mmp-rnn": ("mmp-rnn-ends=drop", {"ends": "drop"}),
    "stfan": ("stfan-clamp_feedback=False", {"clamp_feedback": False}),
}
ROW_OF = {"-".join([name, *(f"{k}={v}" for k, v in options.items())]): rest for name, options, *rest in ROWS}


# kind, options of the public network, frames and sides of the clip, what is given to the conversion
SAME = [
    ("ifi-rnn", {}, (4, 12, 20), {}),
    ("strcnn", {}, (8, 16, 24), {}),
    ("strcnn", {}, (7, 18, 14), {}),
    ("estrnn", {"blocks": 15}, (6, 12, 16), {}),
    ("estrnn", {"blocks": 9}, (6, 16, 12), {}),
    *(("estrnn", {"n": n, "blocks": 2}, (6, 12, 16), {}) for n in (12, 13, 14, 18, 20)),
    ("estrnn", {"blocks": 2, "past": 1, "future": 2}, (5, 12, 16), {"past": 1}),
    ("estrnn", {"blocks": 2, "past": 1, "future": 3}, (6, 12, 16), {"future": 3}),
    ("estrnn", {"blocks": 2, "past": 3, "future": 0}, (5, 12, 16), {"past": 3, "future": 0}),
    ("estrnn-simdeblur", {"blocks": 2}, (6, 12, 16), {}),
    ("mmp-rnn", {}, (6, 20, 36), {}),
    ("mmp-rnn", {"n": 18, "blocks": 2, "head_blocks": 1}, (6, 16, 28), {}),
    ("mmp-rnn", {"blocks": 1, "head_blocks": 2, "past": 1, "future": 0}, (4, 24, 16), {"past": 1}),
    ("mmp-rnn", {"blocks": 1, "head_blocks": 1}, (5, 16, 16), {"attention": False}),
    ("stfan", {}, (4, 12, 20), {}),
    ("stfan-simdeblur", {}, (4, 12, 20), {}),
]


def checkpoint(kind):
    """Return the tensors of a public network filled with golden numbers, in the public order of its parts."""
    model = PUBLIC[kind]().double()
    golden.fill_(model)
    return model.state_dict()


@pytest.mark.parametrize("kind", PUBLIC)
@torch.no_grad()
def test_converted_weights_give_the_golden_numbers(kind, tmp_path):
    torch.save(checkpoint(kind), tmp_path / "public.pth")
    name, options = GOLDEN[kind]
    model = from_public(kind, tmp_path / "public.pth", channel_order="rgb", **options)
    frames, out, _, numbers = ROW_OF[name]
    shift = model.base.input_shift
    restored = model(golden.clip(frames).float() + shift) - shift
    assert restored.shape[1] == out
    assert_numbers(row(restored.double()), numbers, 1e-5)


@pytest.mark.parametrize("kind", PUBLIC)
@torch.no_grad()
def test_the_plain_forms_give_the_golden_numbers(kind):
    """To all nine decimals; what is converted equals them in test_converted_weights_compute_what_the_public_network_does."""
    net = PUBLIC[kind]().double().eval()
    golden.fill_(net)
    frames, _, _, numbers = ROW_OF[GOLDEN[kind][0]]
    run = functools.partial(public.run_stfan, clamp=False) if kind == "stfan" else COMPUTES[kind][0]
    assert_numbers(row(run(net, golden.clip(frames))), numbers, 1e-9)


def drawn(kind, **options):
    """A public network with weights drawn at random, in evaluation mode."""
    torch.manual_seed(0)
    net = getattr(public, kind.removesuffix("-simdeblur").replace("-", "_"))(**options).eval()
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_var, 0.5, 2)
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            nn.init.uniform_(tensor, -0.5, 0.5)
    return public.named(cell=net) if kind == "stfan-simdeblur" else net


@pytest.mark.parametrize(("kind", "options", "size", "given"), SAME, ids=str)
@torch.no_grad()
def test_converted_weights_compute_what_the_public_network_does(kind, options, size, given, tmp_path):
    net = drawn(kind, **options)
    content = {"model": net.state_dict()} if "simdeblur" in kind else {"state_dict": net.state_dict()}
    torch.save(content, tmp_path / "public.pth")
    model = from_public(kind, tmp_path / "public.pth", **given).double()
    clip = torch.rand(1, size[0], 3, *size[1:], dtype=torch.float64)
    run, shift, order = COMPUTES[kind]
    around = {name: options[name] for name in ("past", "future") if name in options}
    attention = {name: given[name] for name in ("attention",) if name in given}
    turn = (2,) if order == "bgr" else ()
    expected = (run(net.double(), clip.flip(turn) - shift, **around, **attention) + shift).flip(turn)
    restored = model(clip)
    if kind.startswith(("estrnn", "mmp-rnn")):  # which also has images for the ends
        assert restored.shape == clip.shape
        past, future = around.get("past", 2), around.get("future", 2)
        restored = restored[:, past : size[0] - future]
    assert restored.shape == expected.shape
    assert (restored - expected).abs().max() <= EXACT * expected.abs().max()


@pytest.mark.parametrize("kind", PUBLIC)
@torch.no_grad()
def test_bgr_is_turned_into_rgb(kind, tmp_path):
    torch.save(checkpoint(kind), tmp_path / "public.pth")
    bgr, rgb = (from_public(kind, tmp_path / "public.pth", channel_order=order) for order in ("rgb", "bgr"))
    clip = torch.rand(1, 6, 3, 8, 8)
    expected = bgr(clip.flip(2)).flip(2)
    assert (rgb(clip) - expected).abs().max() <= 1e-5
    assert (bgr(clip) - expected).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("nests", "front"),
    [
        (["state_dict"], "module.model."),
        (["state_dict"], "_orig_mod.module."),
        (["state_dict"], "deblurrer._orig_mod.net."),  # an attribute of a Lightning module
        (["params"], ""),
        (["params_ema"], "module."),
        (["state_dict", "model"], ""),
        ([], "model."),
    ],
    ids=str,
)
def test_training_checkpoint_becomes_a_file_that_loads(tmp_path, nests, front):
    net = drawn("estrnn", n=8, blocks=3)
    content = wrapped = {f"{front}{key}": tensor for key, tensor in net.state_dict().items()}
    for nest in nests[::-1]:
        content = {"epoch": 3, nest: content}
    torch.save(content, tmp_path / "model_best.pth.tar")
    kind = "estrnn-simdeblur" if "model" in nests else "estrnn"
    convert(kind, tmp_path / "model_best.pth.tar", tmp_path / "out.safetensors", ends="drop")
    model = rirn.load(tmp_path / "out.safetensors")
    expected = {"name": "estrnn", "residual": False, "n_features": 8, "blocks": 3, "past": 2, "future": 2}
    expected |= {"ends": "drop"} | ({"input_shift": 0.0} if "model" in nests else {})
    assert model.config == expected
    assert torch.equal(model.base.gsa.fusion.weight, wrapped[f"{front}fusion.fusion.weight"])
    clip = torch.rand(1, 6, 3, 12, 16, dtype=torch.float64)
    run, shift, order = COMPUTES[kind]
    turn = (2,) if order == "bgr" else ()
    with torch.no_grad():
        expected = (run(net.double(), clip.flip(turn) - shift) + shift).flip(turn)
        assert (model.double()(clip) - expected).abs().max() <= EXACT * expected.abs().max()


def test_averaged_weights_come_before_others(tmp_path):
    params, averaged = drawn("ifi-rnn").state_dict(), ifi_rnn().state_dict()
    torch.save({"params": params, "params_ema": averaged}, tmp_path / "net_g.pth")
    bias = from_public("ifi-rnn", tmp_path / "net_g.pth").base.decoder[2].bias
    assert torch.equal(bias.flip(0), averaged["rnncell1.F_L.2.bias"])


def test_compiled_parts_are_read_and_none_is_lost(tmp_path):
    tensors = ifi_rnn().state_dict()
    path = tmp_path / "public.pth"
    inner = {key.replace("rnncell1.", "rnncell1._orig_mod."): tensor for key, tensor in tensors.items()}
    torch.save(inner, path)
    assert torch.equal(
        from_public("ifi-rnn", path).base.cells[1].update[0].bias, tensors["rnncell1.F_h.0.bias"]
    )
    torch.save({**tensors, "_orig_mod.rnncell0.F_h.0.bias": torch.ones(20)}, path)
    with pytest.raises(
        RirnError, match=r"has tensors that ifi-rnn has not: _orig_mod\.rnncell0\.F_h\.0\.bias"
    ):
        from_public("ifi-rnn", path)


def test_what_a_file_does_not_tell_must_be_given(tmp_path):
    path = tmp_path / "public.pth"
    torch.save(estrnn(4, 1, past=1, future=2).state_dict(), path)
    with pytest.raises(RirnError, match=r"fuses the features of 4 frames, .* give past or future"):
        from_public("estrnn", path)
    with pytest.raises(RirnError, match="of 4 frames, not of 2 past, one present and 2 future ones"):
        from_public("estrnn", path, past=2, future=2)
    with pytest.raises(RirnError, match="past and future must not be negative, nor both 0; got 4 and -1"):
        from_public("estrnn", path, past=4)
    base = from_public("estrnn", path, future=0).base
    assert (base.feature_window.past, base.feature_window.future) == (3, 0)


def test_networks_of_simdeblur_are_not_taken_for_those_of_the_authors(tmp_path):
    path = tmp_path / "public.pth"
    torch.save({"model": estrnn(4, 1).state_dict(), "mata": {"epochs": 1}}, path)
    with pytest.raises(RirnError, match=r"under the key 'model', .* convert it as estrnn-simdeblur"):
        from_public("estrnn", path)
    assert from_public("estrnn-simdeblur", path).base.input_shift == 0
    torch.save({f"cell.{key}": t for key, t in public.stfan().state_dict().items()}, path)
    with pytest.raises(RirnError, match=r"has tensors that stfan has not: cell\.conv1_1\.0\.bias"):
        from_public("stfan", path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    tensors = {key: tensor.double() for key, tensor in ifi_rnn().state_dict().items()}
    tensors["rnncell0.F_h.2.weight"][0, 0, 0, 0] = value
    torch.save(tensors, tmp_path / "public.pth")
    with pytest.raises(
        RirnError, match=r"not finite, in rnncell0\.F_h\.2\.weight; take a checkpoint from before"
    ):
        convert("ifi-rnn", tmp_path / "public.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_messages(tmp_path):
    path = tmp_path / "public.pth"

    def message(kind="ifi-rnn", **options):
        with pytest.raises(RirnError) as caught:
            from_public(kind, path, **options)
        return str(caught.value)

    assert message() == f"there is no checkpoint {path}"
    assert "did you mean 'estrnn'" in message("estrn")
    assert "must be bgr or rgb; got 'gbr'" in message(channel_order="gbr")
    path.write_bytes(b"not a checkpoint")
    assert "cannot be read safely" in message()
    torch.save({"re": re.compile("a")}, path)
    assert "cannot be read safely" in message()
    torch.save({"epoch": 3}, path)
    assert "holds no dictionary of tensors" in message() and message().endswith("it has the keys epoch")
    torch.save([torch.zeros(1)], path)
    assert message().endswith("it has a list without keys")
    good = ifi_rnn().state_dict()
    torch.save({**good, "extra.weight": torch.zeros(1)}, path)
    assert message().endswith("has tensors that ifi-rnn has not: extra.weight")
    torch.save(
        {k: t for k, t in good.items() if k not in ("rnncell0.F_B.0.bias", "rnncell1.F_L.1.bias")}, path
    )
    lacks = "it lacks what is base.cells.0.encoder.0.bias, base.decoder.1.bias here, and has rnncell0.F_B.0.weight, "
    assert lacks in message()
    torch.save({**good, "rnncell0.F_h.7.bias": torch.zeros(1)}, path)
    assert message().endswith("it has also rnncell0.F_h.7.bias")
    torch.save({**good, "rnncell0.F_B.0.bias": torch.zeros(7)}, path)
    assert message().endswith("rnncell0.F_B.0.bias is [7] where the model has [20]")
    assert "has no tensor 'cell.F_B0.weight'; it has rnncell0.F_B.0.bias, " in message("estrnn")
