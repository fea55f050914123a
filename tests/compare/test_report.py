"""The page of `rirn compare`: what is in it, and what is refused."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from rirn.cli import main
from rirn.compare import report
from rirn.compare.report import write_report
from rirn.data import write_png
from rirn.errors import RirnError
from rirn.evaluation.metrics import laplacian_variance, psnr, ssim
from tests.video.clips import picture, probe, write_clip

WIDTH, HEIGHT, COUNT = 64, 48, 6


def folder(path, pictures):
    path.mkdir()
    for i, rgb in enumerate(pictures):
        write_png(path / f"{i:03d}.png", rgb)
    return path


def flat(red, green, blue):
    return np.full((HEIGHT, WIDTH, 3), (red, green, blue), np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("folders")
    return [
        folder(place / name, [flat(40 * i, 9, 9) for i in range(COUNT)])
        for name in ("left", "right", "truth")
    ]


def contents(page):
    """The facts of a page, and the frames in it by their identifiers."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r'<script type="image/jpeg" id="(\w+)">([^<]*)</script>', text)
    frames = {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
        for name, data in blocks
    }
    (facts,) = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', text)
    return json.loads(facts), frames


def test_frames_and_times_of_videos(tmp_path):
    stamps = [900, 4500, 9000, 20000]
    a = write_clip(tmp_path / "a.mp4", 4, pts=stamps)
    b = write_clip(tmp_path / "b.mkv", 4)
    assert write_report(a, b, tmp_path / "page.html") == 4
    facts, frames = contents(tmp_path / "page.html")
    assert facts["times"] == pytest.approx([(s - 900) / 90000 for s in stamps], abs=1e-6)
    assert (facts["names"], facts["width"], facts["height"]) == (["a.mp4", "b.mkv"], 64, 48)
    assert list(frames) == [f"{side}{i}" for i in range(4) for side in "ab"]
    for side, path in (("a", a), ("b", b)):
        for i, rgb in enumerate(probe(path)[1]):
            assert psnr(frames[f"{side}{i}"], rgb) > 30, (side, i)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mkv", "page.html"]


def test_figures_against_truth_are_those_of_the_frames(tmp_path):
    rng = np.random.default_rng(0)
    truth = [picture(WIDTH, HEIGHT, i) for i in range(3)]
    noisy = [np.clip(t + rng.normal(0, 9, t.shape), 0, 255).astype(np.uint8) for t in truth]
    paths = [folder(tmp_path / n, f) for n, f in (("noisy", noisy), ("same", truth), ("truth", truth))]
    write_report(paths[0], paths[1], tmp_path / "page.html", paths[2], quality=10)
    of_psnr, of_ssim = contents(tmp_path / "page.html")[0]["measures"]
    assert (of_psnr["name"], of_ssim["name"]) == ("PSNR", "SSIM")
    rows = list(zip(noisy, truth, strict=True))
    assert of_psnr["values"][0] == pytest.approx([psnr(a, b) for a, b in rows], abs=1e-5)
    assert of_ssim["values"][0] == pytest.approx([ssim(a, b) for a, b in rows], abs=1e-5)
    assert of_psnr["values"][1] == [None] * 3 and of_ssim["values"][1] == [1] * 3


def test_sharpness_without_truth(tmp_path):
    rgb = [picture(WIDTH, HEIGHT, i) for i in range(2)]
    grey = folder(tmp_path / "grey", [flat(9, 9, 9)] * 2)
    write_report(grey, folder(tmp_path / "b", rgb), tmp_path / "page.html")
    (measure,) = contents(tmp_path / "page.html")[0]["measures"]
    assert (measure["name"], measure["unit"]) == ("Sharpness", "variance of the Laplacian")
    assert measure["values"][0] == pytest.approx([0, 0], abs=1e-5)
    assert measure["values"][1] == pytest.approx([laplacian_variance(f) for f in rgb], abs=1e-5)


def test_a_part(tmp_path):
    a = folder(tmp_path / "a", [flat(40 * i, 0, 0) for i in range(6)])
    b = folder(tmp_path / "b", [flat(40 * i, 0, 0) for i in range(5)])
    assert write_report(a, b, tmp_path / "page.html", skip=2, frames=3) == 3
    facts, frames = contents(tmp_path / "page.html")
    assert facts["first"] == 2 and facts["times"] == pytest.approx([0, 0.04, 0.08])
    assert [round(frames[f"b{i}"][..., 0].mean() / 40) for i in range(3)] == [2, 3, 4]


def test_rotated_video_stands_upright_and_deep_samples_are_rounded(tmp_path):
    turn = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    a = write_clip(tmp_path / "a.mp4", 6, matrix=turn)
    b = write_clip(tmp_path / "b.mp4", 6, matrix=turn, codec="libx265", pix_fmt="yuv420p10le")
    write_report(a, b, tmp_path / "page.html")
    facts, frames = contents(tmp_path / "page.html")
    assert (facts["width"], facts["height"]) == (48, 64)
    for side, path in (("a", a), ("b", b)):
        upright = [np.rot90(rgb, -1) for rgb in probe(path)[1]]  # the matrix turns clockwise
        assert min(psnr(frames[f"{side}{i}"], rgb) for i, rgb in enumerate(upright)) > 28


def test_nothing_comes_from_elsewhere_and_names_are_only_text(tmp_path):
    name = "<b onclick=x>&'\"</b><!-- frames -->"
    (tmp_path / "x").mkdir()
    a = folder(tmp_path / "x" / name.replace("/", "\u2215"), [flat(1, 2, 3)])
    script = tmp_path / "<"
    script.mkdir()
    b = folder(script / "script>", [flat(1, 2, 3)])
    write_report(a, b, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"""https?://(?!www\.w3\.org/2000/svg)|<link|<iframe|\bsrc=|url\(|@import""", text)
    assert "default-src 'none'" in text
    assert "<b onclick" not in text and "{{" not in text
    assert contents(tmp_path / "page.html")[0]["names"][0] == a.name


def test_colours_are_not_subsampled(tmp_path):
    stripes = flat(255, 0, 0)
    stripes[:, ::2] = (0, 0, 255)
    a = folder(tmp_path / "a", [stripes])
    write_report(a, a, tmp_path / "page.html")
    assert psnr(contents(tmp_path / "page.html")[1]["a0"], stripes) > 30


def test_names_that_are_alike_get_their_folders(tmp_path):
    for side in "ab":
        (tmp_path / side).mkdir()
        folder(tmp_path / side / "clip", [flat(1, 2, 3)])
    write_report(tmp_path / "a" / "clip", tmp_path / "b" / "clip", tmp_path / "page.html")
    assert contents(tmp_path / "page.html")[0]["names"] == ["a/clip", "b/clip"]


def test_refusals_leave_nothing_behind(tmp_path, folders, monkeypatch):
    left, right, truth = folders
    small = folder(tmp_path / "small", [flat(0, 0, 0)[:24, :32]] * COUNT)
    short = folder(tmp_path / "short", [flat(0, 0, 0)] * 4)
    page = tmp_path / "page.html"
    page.write_text("old")

    def refused(message, *args, target=page, **options):
        with pytest.raises(RirnError, match=message):
            write_report(args[0], args[1], target, *args[2:], **options)

    refused("left is 64x48 and .*small is 32x24", left, small)
    refused("left is 64x48 and .*small is 32x24", left, right, small)
    refused("short ends after 4 frames and .*left does not", left, short)
    refused("short ends after 4 frames and .*left does not", left, right, short)
    refused("no more than 6 frames", left, right, skip=6)
    refused("--quality must be", left, right, quality=0)
    refused("--frames must be", left, right, frames=0)
    refused("--skip must be", left, right, skip=-1)
    refused("gone does not exist", left, tmp_path / "gone")
    refused("end it in .html", left, right, target=tmp_path / "page.mp4")
    refused("does not exist; create it", left, right, target=tmp_path / "no" / "page.html")
    monkeypatch.setattr(report, "MAX_BYTES", 10_000)
    refused("after [1-6] frames, too much", left, right, truth)
    assert page.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "short", "small"]


def test_command(tmp_path, folders, capsys):
    left, right, truth = map(str, folders)
    page = tmp_path / "page.html"
    assert main(["compare", left, right, truth, "-o", str(page), "--frames", "2", "--rate", "50"]) == 0
    assert f"{page}: 2 frames" in capsys.readouterr().out
    facts, _ = contents(page)
    assert (facts["truth"], facts["rate"], facts["times"]) == ("truth", 50, [0, 0.02])
    assert main(["compare", left, str(tmp_path), "-o", str(page)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
