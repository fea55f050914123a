"""``rirn data synth``: data sets from video, frames and photos, all or nothing."""

import itertools
import json

import numpy as np
import pytest

import rirn
from rirn import RirnError
from rirn.cli import main
from rirn.data import find_sequences, list_images, read_image, write_png
from rirn.data.check import check
from rirn.synth import SynthConfig, synthesize
from tests.data.test_interpolation import scene, view
from tests.video.clips import write_clip


def folder_of_frames(folder, frames):
    folder.mkdir()
    for i, frame in enumerate(frames):
        write_png(folder / f"{i:04d}.png", frame)
    return folder


@pytest.fixture
def footage(tmp_path):
    """Seven frames of one shot and four of another, darker one."""
    frames = [*(view(2 * x) for x in range(7)), *(scene(1)[:, x : x + 80] // 3 for x in range(4))]
    return folder_of_frames(tmp_path / "ride", frames)


def test_average_of_frames_and_manifest(footage, tmp_path, capsys):
    out = tmp_path / "made" / "set"
    argv = ["data", "synth", footage, "--out", out, "--window", "3", "--stride", "2", "--gamma", "1"]
    assert main([str(a) for a in argv]) == 0
    assert "4 pairs in 2 sequences" in capsys.readouterr().out
    first, second = find_sequences(out)
    assert (first.name, len(first), second.name, len(second)) == ("ride", 3, "ride-2", 1)
    frames = [read_image(p) for p in list_images(footage)]
    for i, (blurry, sharp) in enumerate(zip(first.blurry, first.sharp, strict=True)):
        mean = np.mean(frames[2 * i : 2 * i + 3], axis=0)
        assert np.abs(read_image(blurry) - mean).max() <= 0.5 + 1e-3
        assert np.array_equal(read_image(sharp), frames[2 * i + 1])
    assert check(out).problems == []
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["rirn"] == rirn.__version__
    assert {"method": "average", "window": 3, "stride": 2, "gamma": 1.0, "seed": 0}.items() <= manifest[
        "parameters"
    ].items()
    assert manifest["sequences"] == [
        {"sequence": "ride", "pairs": 3, "source": str(footage), "shot": 0},
        {"sequence": "ride-2", "pairs": 1, "source": str(footage), "shot": 1},
    ]
    assert [p.name for p in out.parent.iterdir()] == ["set"]


def test_interpolated_exposures_are_centred_on_filmed_frames(tmp_path):
    pytest.importorskip("skimage")
    frames = [view(2 * x)[:24, :32] for x in range(5)]
    source = folder_of_frames(tmp_path / "walk", frames)
    synthesize([source], tmp_path / "set", SynthConfig("interpolate", window=5, subframes=4), workers=2)
    (sequence,) = find_sequences(tmp_path / "set")
    # Half an exposure is half an interval: the first and the last frame have none.
    assert len(sequence) == 3
    assert all(np.array_equal(read_image(p), f) for p, f in zip(sequence.sharp, frames[1:4], strict=True))


def test_videos_are_read(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=9)
    made = synthesize([clip], tmp_path / "set", SynthConfig(window=3))["sequences"]
    assert sum(row["pairs"] for row in made) == 3 and made[0]["sequence"] == "clip"


def test_shaken_photos(tmp_path, capsys):
    photos = folder_of_frames(tmp_path / "photos", [scene(i, (96, 160)) for i in range(2)])
    argv = [
        "data",
        "synth",
        photos,
        "--method",
        "shake",
        "--size",
        "[24,32]",
        "--frames",
        "3",
        "--clips",
        "2",
    ]
    argv += ["--shrink", "2", "--seed", "3", "--shake.tremor", "2"]
    for name in ("a", "b"):
        assert main([str(a) for a in (*argv, "--out", tmp_path / name)]) == 0
    sequences = find_sequences(tmp_path / "a")
    assert [s.name for s in sequences] == ["0000", "0000-2", "0001", "0001-2"]
    images = [[read_image(p) for p in (*s.blurry, *s.sharp)] for s in sequences]
    again = [[read_image(p) for p in (*s.blurry, *s.sharp)] for s in find_sequences(tmp_path / "b")]
    assert np.array_equal(images, again) and np.shape(images) == (4, 6, 24, 32, 3)
    assert not np.array_equal(images[0], images[1])  # another clip of the photo, another path
    parameters = json.loads((tmp_path / "a/manifest.json").read_text())["parameters"]
    assert parameters["seed"] == 3 and parameters["shake"]["tremor"] == 2 and parameters["size"] == [24, 32]


def test_nothing_is_written_over_or_left_behind(footage, tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(RirnError, match="not an empty folder"):
        synthesize([footage], out, SynthConfig(window=3))
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    (out / "mine.txt").unlink()
    (footage / "0009.png").write_bytes(b"damaged")
    with pytest.raises(RirnError, match=r"0009\.png"):
        synthesize([footage], out, SynthConfig(window=3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ride", "set"] and not any(out.iterdir())
    (footage / "0009.png").unlink()
    assert len(synthesize([footage], out, SynthConfig(window=3))["sequences"]) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--window", "4"], "window must be odd"),
        (["--window", "9"], "ride gives no pair"),
        (["--gamma", "0"], "gamma must be positive; got 0"),
        (
            ["--method", "shake", "--size", "[100,100]"],
            "0000.png is 80x72 shrunk by 1, smaller than clips of 100x100",
        ),
        (["--method", "blend"], "average"),
        (
            ["--method", "scene", "--gamma", "1"],
            "scenes are made with a gamma of 2.2; leave gamma, now 1.0, out",
        ),
        (["--method", "shake", "--seed", "-1"], "seed must not be negative; got -1"),
        (["--shake.exposure", "[2,1]"], "shake.exposure must be two shares"),
        (["--shake.exposure", "[1.5,1.5]"], "shake.exposure must be two shares"),
        (["--shake.frame_rate", "0"], "shake.frame_rate must be positive"),
        (["--shake.jerk", "-1"], "shake.jerk must be 0 or above"),
        (["--shake.drift", "-1"], "shake.drift must be 0 or above"),
        (["--windo", "3"], "did you mean --window?"),
    ],
)
def test_mistakes_are_one_sentence(footage, tmp_path, capsys, argv, message):
    try:
        status = main(["data", "synth", str(footage), "--out", str(tmp_path / "set"), *argv])
    except SystemExit as stopped:
        status = stopped.code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("rirn")]
    assert status and len(lines) == 1 and message in lines[0] and "Traceback" not in err
    assert not (tmp_path / "set").exists()


def photo_folder(folder):
    rng = np.random.default_rng(0)
    return folder_of_frames(
        folder, rng.integers(0, 255, (2, 12, 14, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    )


def test_scenes_may_be_wide_and_photos_must_be_large(tmp_path, capsys):
    photos = photo_folder(tmp_path / "photos")  # 112x96 each
    argv = [
        "data",
        "synth",
        str(photos),
        "--method",
        "scene",
        "--frames",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*argv, "--size", "[40,110]"]) == 0
    assert read_image(find_sequences(tmp_path / "out")[0].sharp[0]).shape == (40, 110, 3)
    write_png(photos / "small.png", np.zeros((16, 16, 3), np.uint8))
    assert main([*argv[:-1], str(tmp_path / "other"), "--size", "[40,110]"]) == 1
    assert "small.png is 16x16 shrunk by 1, smaller than clips of 110x40" in capsys.readouterr().err


def test_scenes_of_photos_through_a_camera(tmp_path):
    photos = photo_folder(tmp_path / "photos")
    argv = ["data", "synth", photos, "--method", "scene", "--size", "[48,64]", "--frames", "5", "--seed", "4"]
    argv += ["--scene.still_rate", "1", "--scene.layers", "[1,2]", "--scene.sharp_rate", "0"]
    camera = [
        "--camera.scale_rate",
        "1",
        "--camera.scale",
        "[0.5,0.5]",
        "--camera.noise_rate",
        "1",
        "--camera.tone_rate",
        "0",
    ]
    for name, further in (("plain", []), ("filmed", camera), ("again", camera)):
        assert main([str(a) for a in [*argv, *further, "--out", tmp_path / name]]) == 0
    plain, filmed, again = (
        [
            [read_image(p) for p in half]
            for s in find_sequences(tmp_path / name)
            for half in (s.blurry, s.sharp)
        ]
        for name in ("plain", "filmed", "again")
    )
    assert [len(half) for half in plain] == [5] * 4 and plain[0][0].shape == (48, 64, 3)
    assert filmed[0][0].shape == (24, 32, 3)
    assert all(
        np.array_equal(a, b) for x, y in zip(filmed, again, strict=True) for a, b in zip(x, y, strict=True)
    )
    # The noise is in the input alone: the truth is the plain one at half the size.
    means = plain[1][0].reshape(24, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(filmed[1][0] - means).mean() < 6 < np.abs(filmed[0][0].astype(int) - means).mean() + 6
    assert json.loads((tmp_path / "filmed" / "manifest.json").read_text())["parameters"]["camera"][
        "scale"
    ] == [0.5, 0.5]


def test_interpolated_frames_one_by_one_are_highspeed_footage(tmp_path):
    pytest.importorskip("skimage")
    source = folder_of_frames(tmp_path / "walk", [view(2 * x)[:24, :32] for x in range(3)])
    synthesize([source], tmp_path / "out", SynthConfig(method="interpolate", subframes=4, window=1, stride=1))
    (made,) = find_sequences(tmp_path / "out")
    assert len(made) == 9
    sharp = [read_image(p) for p in made.sharp]
    assert all(np.array_equal(sharp[4 * i], read_image(p)) for i, p in enumerate(list_images(source)))
    changes = [np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise(sharp)]
    assert max(changes) < 2.5 * min(changes)
