"""Scores of sharp, compressed, noisy, smaller and static versions of a sequence."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

import rirn
from rirn import RirnError
from rirn.cli import main
from rirn.data import write_png, write_sequence
from rirn.evaluation.robustness import (
    CEILING,
    Version,
    _score,
    format_robustness,
    restore,
    robustness,
    versions_of_footage,
    versions_of_pairs,
)

HEIGHT, WIDTH = 40, 48


def frames(count, step=3):
    """A coarse pattern that moves."""
    pattern = (
        np.random.default_rng(0).integers(0, 255, (12, 60, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    )
    return np.stack([pattern[:HEIGHT, step * i : step * i + WIDTH] for i in range(count)])


def smooth(clip):
    """A clip blurred along its rows."""
    return ((np.roll(clip, 1, 2).astype(int) + clip + np.roll(clip, -1, 2)) // 3).astype(np.uint8)


class Fake(nn.Module):
    """A model without state that does one thing to each frame, two frames late."""

    delay = 2
    dropped = 0

    def __init__(self, change=lambda frame: frame):
        super().__init__()
        self.change, self.weight = change, nn.Parameter(torch.zeros(()))

    def step(self, frame, state):
        waiting = [*(state or []), self.change(frame)]
        return (waiting.pop(0) if len(waiting) > self.delay else None), waiting

    def flush(self, state):
        return state


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("robustness")
    sharp = frames(6)
    write_sequence(root / "pairs" / "ride", zip(smooth(sharp), sharp, strict=True))
    (root / "raw" / "run").mkdir(parents=True)
    for i, frame in enumerate(frames(30, 1)):
        write_png(root / "raw" / "run" / f"{i:03d}.png", frame)
    return root


def test_a_model_that_changes_nothing_makes_nothing_worse(root):
    rows = list(robustness(Fake(), [root / "pairs", root / "raw"]))
    assert [row.sequence for row in rows] == ["ride"] * 18 + ["run"] * 15
    for row in rows:
        assert (row.psnr_in, row.gain, row.worst, row.worse) == (row.psnr_out, 0, 0, 0), row
        assert row.flicker in (None, 1)
    by_name = {row.version: row for row in rows if row.sequence == "ride"}
    assert by_name["sharp"].psnr_in == np.inf and by_name["as it is"].psnr_in < 30
    assert by_name["every second frame"].frames == 3


def test_versions_are_what_they_say():
    sharp = frames(6)
    blurry = smooth(sharp)
    made = {version.name: version for version in versions_of_pairs(blurry, sharp)}
    error = {
        name: np.abs(v.blurry.astype(int) - v.sharp).mean() for name, v in made.items() if v.region is None
    }
    assert error["a quarter of the blur"] < error["half of the blur"] < error["as it is"]
    assert error["sharp"] == error["still picture"] == 0 < error["sharp, H.264, crf 23"]
    unfocused = made["sharp, right side out of focus"]
    edges = np.square(np.diff(unfocused.sharp.astype(int), axis=2)).mean((0, 1, 3))
    assert np.array_equal(unfocused.blurry, unfocused.sharp)
    assert np.array_equal(unfocused.sharp[:, :, : WIDTH // 3], sharp[:, :, : WIDTH // 3])
    assert edges[-WIDTH // 3 :].mean() < 0.1 * edges[: WIDTH // 3].mean()
    assert error["H.264, crf 18"] < error["H.264, crf 28"]
    assert made["half size"].sharp.shape == (6, HEIGHT // 2, WIDTH // 2, 3)
    for shutter in ("sharp", "blurred"):
        inside, outside = (
            made[f"static camera, thing moves {shutter}: {part}"] for part in ("inside", "outside")
        )
        assert (inside.region ^ outside.region).all() and 0.01 < inside.region.mean() < 0.7
        still = np.where(outside.region[..., None], outside.sharp, 0)
        assert np.ptp(np.where(outside.region.all(0)[..., None], still, 0), axis=0).max() <= 2
    footage = {version.name: version for version in versions_of_footage(frames(30, 1))}
    assert len(footage["mean of 3 frames, every 8th"].sharp) == 4
    assert np.array_equal(footage["mean of 3 frames, every 8th"].sharp[1], frames(30, 1)[9])


def test_a_spoiled_frame_shows():
    sharp = frames(5)
    spoiled = sharp.copy()
    spoiled[3] = smooth(sharp)[3]
    row = _score("ride", Version("sharp", sharp, sharp), spoiled, False, 0)
    assert row.worst_frame == 3 and row.worse == pytest.approx(0.2)
    expected = 10 * np.log10(255**2 / np.square(sharp[3].astype(float) - spoiled[3]).mean()) - CEILING
    assert row.worst == pytest.approx(expected, abs=1e-3) and row.gain == pytest.approx(
        expected / 5, abs=1e-3
    )
    part = np.zeros((5, HEIGHT, WIDTH), bool)
    part[:, :10] = True
    assert (
        _score("ride", Version("x", sharp, sharp, part), np.where(part[..., None], sharp, 0), False, 0).worse
        == 0
    )
    assert (
        _score("ride", Version("x", sharp, sharp, ~part), np.where(part[..., None], sharp, 0), False, 0).worse
        == 1
    )


def test_the_worst_frame_is_counted_in_the_whole_clip():
    """Though only frames that hold part of the region are scored."""
    sharp = frames(5)
    part = np.zeros((5, HEIGHT, WIDTH), bool)
    part[2:, :10] = True
    spoiled = sharp.copy()
    spoiled[3, :10] = 0
    row = _score("ride", Version("x", sharp, sharp, part), spoiled, False, 0)
    assert row.frames == 3 and row.worst_frame == 3


def test_wide_and_black_frames_have_versions():
    wide = np.concatenate([frames(3)[:, :20]] * 2, 2)  # as wide as cinema
    names = [version.name for version in versions_of_footage(wide)]
    assert any("inside" in name for name in names)
    wide[0] = wide[-1] = 0  # a fade: nothing is seen to move
    faded = [version.name for version in versions_of_footage(wide)]
    assert faded == [name for name in names if "inside" not in name]


def test_every_video_of_a_folder_has_rows_of_its_own(root, tmp_path):
    """Sharp frames beside pairs count, and two videos of one name stay apart."""
    both = tmp_path / "both"
    shutil.copytree(root / "pairs", both)
    shutil.copytree(root / "raw", both / "raw")
    rows = list(robustness(Fake(), [both, root / "pairs"]))
    counts = Counter(row.sequence for row in rows)
    assert counts == {"ride": 18, "raw/run": 15, "ride (2)": 18}


def test_flicker_is_change_over_change():
    noisy = frames(4)
    row = _score("ride", Version("x", noisy, noisy, flickers=True), noisy // 2, False, 0)
    assert row.flicker == pytest.approx(0.5, abs=0.02)


def test_restored_frames_are_in_step_with_their_input():
    clip = frames(5)
    assert np.array_equal(restore(Fake(lambda frame: 1 - frame), clip), 255 - clip)


def test_the_command_prints_and_writes_every_row(root, tmp_path, capsys):
    weights = tmp_path / "identity.safetensors"
    rirn.save_weights(rirn.create_model("gru", width=0.2, residual=True), weights)
    found = tmp_path / "scores.json"
    command = [
        "evaluate",
        "--robustness",
        "--data",
        str(root / "pairs"),
        "--model",
        str(weights),
        "--json",
        str(found),
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    rows = json.loads(found.read_text())["rows"]
    assert len(rows) == 18 and all(row["version"] in printed for row in rows)
    sharp = next(row for row in rows if row["version"] == "sharp")
    assert sharp["psnr_in"] is None and sharp["worse"] == 0 and sharp["ssim_out"] == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--data", "{root}/nowhere"], "there is no folder"),
        (["--data", "{root}/empty"], "holds no frames; give a folder of images"),
        (["--data", "{root}/pairs", "--split", "test"], "--robustness knows no --split; leave it out"),
        ([], "nothing to score; give --data DIR"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(root, capsys, argv, message):
    (root / "empty").mkdir(exist_ok=True)
    assert main(["evaluate", "--robustness", *(word.format(root=root) for word in argv)]) != 0
    assert message in capsys.readouterr().err


def test_models_that_drop_frames_are_refused(root):
    model = rirn.create_model("strcnn", width=0.2, ends="drop").eval()
    with pytest.raises(RirnError, match="robustness is scored with models that give one for each"):
        list(robustness(model, [root / "pairs"]))


def test_table(root):
    text = format_robustness(list(robustness(Fake(), [root / "pairs"])), "fake")
    assert "ride, fake" in text and "worst (frame)" in text and max(map(len, text.splitlines())) < 125
