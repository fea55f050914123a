"""Checkpoints of public code: made up here with the names and shapes that the public classes have.

Filled by the rule of the golden numbers, a converted checkpoint must give what the public code gave.
"""

import re

import pytest
import torch
from torch import nn

import rirn
from rirn import RirnError
from rirn.weights.convert import convert, from_public
from tests import golden
from tests.models.test_golden import ROWS, assert_numbers, row


def conv(i, o, kernel, stride=1):
    return nn.Conv2d(i, o, kernel, stride, kernel // 2)


def up(i, o):
    return nn.ConvTranspose2d(i, o, 3, 2, 1, 1)


def named(**parts):
    return nn.ModuleDict(parts)


def res(c, norm=False):
    layers = [conv(c, c, 3), nn.ReLU(), conv(c, c, 3)]
    if norm:
        layers = [layers[0], nn.BatchNorm2d(c), layers[1], layers[2], nn.BatchNorm2d(c)]
    return named(main_branch=nn.Sequential(*layers))


def ifi_rnn():
    def cell(last):
        return named(
            F_B=nn.Sequential(conv(3, 20, 5), conv(20, 40, 5), conv(40, 60, 5)),
            F_R=nn.Sequential(*[res(80) for _ in range(6)]),
            **({"F_L": nn.Sequential(up(80, 40), up(40, 20), conv(20, 3, 5))} if last else {}),
            F_h=nn.Sequential(conv(80, 20, 3), res(20), conv(20, 20, 3)),
        )

    return named(rnncell0=cell(False), rnncell1=cell(True))


def strcnn():
    blocks = [nn.Sequential(*[res(64, norm=True) for _ in range(4)]) for _ in range(2)]
    return named(
        encoder=named(
            m1=nn.Sequential(conv(15, 64, 5), nn.ReLU(), conv(64, 32, 3, 2), nn.ReLU()),
            m2=blocks[0],
        ),
        dtb=named(filter=nn.Conv2d(128, 64, 5)),
        decoder=named(
            m1=blocks[1],
            m2=nn.Sequential(nn.ConvTranspose2d(64, 64, 4, 2, 1), nn.ReLU(), conv(64, 3, 3)),
            f=nn.Sequential(conv(64, 32, 3), nn.ReLU()),
        ),
    )


def estrnn(n=16, blocks=15):
    def rdb(c, g):
        dense = nn.Sequential(*[named(conv=conv(c + i * g, g, 3)) for i in range(3)])
        return named(dense_layers=dense, conv1x1=conv(c + 3 * g, c, 1))

    def down(c, g):
        return named(rdb=rdb(c, g), down_sampling=conv(c, 2 * c, 5, 2))

    f = 5 * n
    return named(
        cell=named(
            F_B0=conv(3, n, 5),
            F_B1=down(n, n),
            F_B2=down(2 * n, 3 * n // 2),
            F_R=named(
                RDBs=nn.ModuleList([rdb(f, 2 * n) for _ in range(blocks)]),
                conv1x1=conv(blocks * f, f, 1),
                conv3x3=conv(f, f, 3),
            ),
            F_h=nn.Sequential(conv(f, n, 3), rdb(n, n), conv(n, n, 3)),
        ),
        recons=named(model=nn.Sequential(up(5 * f, 2 * n), up(2 * n, n), conv(n, 3, 5))),
        fusion=named(
            F_f=nn.Sequential(nn.Linear(2 * f, 4 * f), nn.GELU(), nn.Linear(4 * f, 2 * f), nn.Sigmoid()),
            F_p=nn.Sequential(conv(2 * f, 4 * f, 1), conv(4 * f, 2 * f, 1)),
            condense=conv(2 * f, f, 1),
            fusion=conv(5 * f, 5 * f, 1),
        ),
    )


def stfan():
    def layer(i, o, kernel=3, stride=1):
        return nn.Sequential(conv(i, o, kernel, stride), nn.LeakyReLU())

    def upper(i, o):
        return nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.LeakyReLU())

    def block(c):
        return named(stem=nn.Sequential(conv(c, c, 3), nn.LeakyReLU(), conv(c, c, 3)))

    def pyramid(prefix, i):
        parts = {}
        for stage, (a, b) in enumerate([(i, 32), (32, 64), (64, 128)], 1):
            parts[f"{prefix}{stage}_1"] = layer(a, b, stride=1 if stage == 1 else 2)
            parts |= {f"{prefix}{stage}_{j}": block(b) for j in (2, 3)}
        return parts

    def head(i):
        return nn.Sequential(layer(i, 128), block(128), block(128), layer(128, 3200, 1))

    return named(
        fea=layer(256, 128),
        **pyramid("conv", 3),
        upconv2_u=upper(256, 64),
        upconv2_2=block(64),
        upconv2_1=block(64),
        upconv1_u=upper(64, 32),
        upconv1_2=block(32),
        upconv1_1=block(32),
        img_prd=layer(32, 3),
        **pyramid("kconv", 9),
        fac_warp=head(128),
        kconv4=layer(3200, 128, 1),
        fac_deblur=head(256),
    )


PUBLIC = {"ifi-rnn": ifi_rnn, "strcnn": strcnn, "estrnn": estrnn, "stfan": stfan}
GOLDEN = {  # the row of the golden table, and the option that makes the same frames come out
    "ifi-rnn": ("ifi-rnn-variant=C2H3", {}),
    "strcnn": ("strcnn-dtb=estrnn-repo-ends=drop", {"ends": "drop"}),
    "estrnn": ("estrnn-ends=drop", {"ends": "drop"}),
    "stfan": ("stfan-clamp_feedback=False", {"clamp_feedback": False}),
}
ROW_OF = {"-".join([name, *(f"{k}={v}" for k, v in options.items())]): rest for name, options, *rest in ROWS}


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
def test_bgr_is_turned_into_rgb(kind, tmp_path):
    torch.save(checkpoint(kind), tmp_path / "public.pth")
    bgr, rgb = (from_public(kind, tmp_path / "public.pth", channel_order=order) for order in ("rgb", "bgr"))
    clip = torch.rand(1, 3, 3, 8, 8)
    expected = bgr(clip.flip(2)).flip(2)
    assert (rgb(clip) - expected).abs().max() <= 1e-5
    assert (bgr(clip) - expected).abs().max() > 1e-3


def test_training_checkpoint_becomes_a_file_that_loads(tmp_path):
    wrapped = {f"module.model.{key}": tensor for key, tensor in estrnn(8, 3).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "model_best.pth.tar")
    convert("estrnn", tmp_path / "model_best.pth.tar", tmp_path / "out.safetensors", ends="drop")
    model = rirn.load(tmp_path / "out.safetensors")
    expected = {"name": "estrnn", "residual": False, "width": 0.5, "blocks": 3, "ends": "drop"}
    assert model.config == expected
    assert torch.equal(model.base.gsa.fusion.weight, wrapped["module.model.fusion.fusion.weight"])


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
    assert "holds no dictionary of tensors" in message()
    good = ifi_rnn().state_dict()
    torch.save({**good, "extra.weight": torch.zeros(1)}, path)
    assert message().endswith("has tensors that ifi-rnn has not: extra.weight")
    torch.save(
        {k: t for k, t in good.items() if k not in ("rnncell0.F_B.0.bias", "rnncell1.F_L.1.bias")}, path
    )
    assert message().endswith("it lacks base.cells.0.encoder.0.bias, base.decoder.1.bias")
    torch.save({**good, "rnncell0.F_h.7.bias": torch.zeros(1)}, path)
    assert message().endswith("it has also base.cells.0.update.7.bias")
    torch.save({**good, "rnncell0.F_B.0.bias": torch.zeros(7)}, path)
    assert "base.cells.0.encoder.0.bias, as named here, is [7] where the model has [20]" in message()
    assert "has no tensor 'cell.F_B0.weight'" in message("estrnn")
