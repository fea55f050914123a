"""Maps of the gates in the page of `rirn compare --maps`."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from rirn.cli import main
from rirn.compare.maps import GateMaps, palette
from rirn.compare.report import write_report
from rirn.errors import RirnError
from rirn.weights import save_weights
from tests.compare.test_report import contents, folder
from tests.models.cases import small
from tests.video.clips import picture, write_clip

WIDTH, HEIGHT, COUNT = 34, 26, 4


@pytest.fixture
def frames(tmp_path):
    return folder(tmp_path / "left", [picture(WIDTH, HEIGHT, i) for i in range(COUNT)])


def stepped(name="ifi-rnn+rirn", low=0.25, high=0.75):
    """A model whose w~ is ``low`` at even channels and ``high`` at odd ones, and whose w is ``high``."""
    model = small(name, torch.float32)
    model.config["width"] = 0.1
    for branch, even in ((model.atb.branch_prev, low), (model.atb.branch_cur, high)):
        branch.conv2.weight.zero_()
        branch.conv2.bias[::2], branch.conv2.bias[1::2] = torch.logit(torch.tensor([even, high]))
    return model


def maps_of(page):
    """Maps in the page by identifier, as indices into the palette."""
    found = re.findall(
        r'<script type="image/png" id="(\w+)">([^<]*)</script>', page.read_text(encoding="utf-8")
    )
    return {name: Image.open(io.BytesIO(base64.b64decode(data, validate=True))) for name, data in found}


@pytest.mark.parametrize("name", ["ifi-rnn+rirn", "strcnn+rirn"])  # the second holds two frames back
def test_maps_are_means_over_channels(name, frames, tmp_path):
    page = tmp_path / "page.html"
    assert write_report(frames, frames, page, maps=GateMaps(stepped(name))) == COUNT
    facts = contents(page)[0]["maps"]
    assert (facts["model"], facts["names"]) == (name, ["w~", "w"])
    assert facts["scale"] == pytest.approx([0.5, 0.75], abs=1e-3)
    assert facts["measure"]["values"][0] == pytest.approx([0.5] * COUNT, abs=1e-3)
    assert facts["measure"]["values"][1] == pytest.approx([0.75] * COUNT, abs=1e-3)
    pictures = maps_of(page)
    assert sorted(pictures) == sorted(f"{kind}{i}" for kind in "pc" for i in range(COUNT))
    for key, image in pictures.items():
        assert image.size == (WIDTH, HEIGHT)
        assert (np.asarray(image) == (0 if key[0] == "p" else 255)).all()
        assert (
            np.asarray(image.convert("RGB"))[0, 0].tolist() == palette()[0 if key[0] == "p" else 255].tolist()
        )


def test_maps_are_those_of_the_frames(frames, tmp_path):
    page, model = tmp_path / "page.html", small("ifi-rnn+atb", torch.float32)
    write_report(frames, frames, page, skip=1, frames=2, maps=GateMaps(model))
    facts, state = contents(page)[0]["maps"], None
    low, high = facts["scale"]
    for i in range(2):
        rgb = torch.from_numpy(picture(WIDTH, HEIGHT, i + 1)).permute(2, 0, 1)[None] / 255
        seen = []
        hook = model.atb.register_forward_hook(
            lambda module, args, named, output, seen=seen: seen.append(named), with_kwargs=True
        )
        _, state = model.step(rgb, state)
        hook.remove()
        prev = model.atb.maps(**seen[0])[0][0].mean(0).numpy()
        shown = np.asarray(maps_of(page)[f"p{i}"])[::4, ::4] / 255 * (high - low) + low
        assert np.abs(shown - prev.clip(low, high)).max() < 0.01 * (high - low) + 1e-3


def test_maps_turn_with_the_video(tmp_path):
    turn = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    clip = write_clip(tmp_path / "a.mp4", 3, matrix=turn)
    page = tmp_path / "page.html"
    write_report(clip, clip, page, maps=GateMaps(small("ifi-rnn+atb", torch.float32)))
    facts, _ = contents(page)
    assert (
        {image.size for image in maps_of(page).values()} == {(facts["width"], facts["height"])} == {(48, 64)}
    )


def test_command(frames, tmp_path, capsys):
    path, page = tmp_path / "atb.safetensors", tmp_path / "page.html"
    save_weights(stepped(), path)
    arguments = ["compare", str(frames), str(frames), "-o", str(page), "--maps", "--model"]
    assert main([*arguments, str(path)]) == 0
    assert len(maps_of(page)) == 2 * COUNT
    plain = small("ifi-rnn", torch.float32)
    plain.config["width"] = 0.1
    save_weights(plain, path)
    capsys.readouterr()
    assert main([*arguments, str(path)]) == 1
    error = capsys.readouterr().err
    assert "--maps needs a model that blends features over time" in error and error.count("\n") == 1


def test_weights_that_drop_the_ends_are_refused(frames, tmp_path, capsys):
    model = small("strcnn+rirn", torch.float32, ends="drop")
    model.config |= {"width": 0.1, "ends": "drop"}
    path = tmp_path / "drop.safetensors"
    save_weights(model, path)
    calls = (
        ["compare", str(frames), str(frames), "-o", str(tmp_path / "page.html"), "--maps"],
        ["deblur", str(frames), str(tmp_path / "out")],
        ["deblur", str(frames), "--benchmark"],
    )
    for arguments in calls:
        assert main([*arguments, "--model", str(path)]) == 1
        error = capsys.readouterr().err
        assert "no image for the first and last frames" in error and error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drop.safetensors", "left"]


def test_no_device():
    with pytest.raises(RirnError, match="knows no device"):
        GateMaps(stepped(), "nowhere")
