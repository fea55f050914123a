"""A cut resets the state; motion, pans and fades do not."""

import numpy as np
import pytest

from rirn.video import CutDetector, deblur
from rirn.video.scenes import split_scenes
from tests.video.clips import Delayed, Identity, picture, probe, write_clip
from tests.video.scene_clips import clips, scores


def scene(seed, frames, speed=3):
    """A random smooth picture that moves to the left."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 120, 3)
    wide = rng.integers(low, low + 130, (8, 40, 3)).repeat(12, 0).repeat(12, 1).astype(np.uint8)
    return [wide[:, speed * i : speed * i + 160] for i in range(frames)]


def cuts(frames):
    detector = CutDetector()
    return [i for i, frame in enumerate(frames) if detector(frame)]


def test_cuts_are_found_and_motion_is_none():
    frames = scene(1, 20) + scene(2, 15, speed=6) + scene(4, 1) + scene(1, 20)
    assert cuts(frames) == [20, 35, 36]


def test_scenes_are_split_at_cuts():
    frames = scene(1, 20) + scene(2, 15, speed=6)
    scenes = [list(part) for part in split_scenes(iter(frames))]
    assert [len(part) for part in scenes] == [20, 15] and np.array_equal(scenes[1][0], frames[20])
    assert list(split_scenes([])) == []


def test_a_fade_is_no_cut():
    a, b = scene(1, 1)[0].astype(float), scene(2, 1)[0].astype(float)
    assert cuts([((1 - t) * a + t * b).astype(np.uint8) for t in np.linspace(0, 1, 25)]) == []


def test_a_flash_a_change_of_exposure_and_a_fade_through_black_are_no_cuts():
    frames = [f.astype(float) for f in scene(1, 40) + scene(2, 20)]
    frames[10] += 80
    gain = np.concatenate([np.ones(20), np.full(10, 0.4), np.linspace(0.4, 0, 10), np.linspace(0, 1, 20)])
    assert cuts([np.clip(g * f, 0, 255).astype(np.uint8) for g, f in zip(gain, frames, strict=True)]) == []


def test_cuts_in_the_dark_are_found():
    assert cuts([f // 8 for f in scene(1, 20) + scene(2, 15) + scene(4, 15)]) == [20, 35]


def test_cuts_of_photographs():
    pytest.importorskip("skimage")
    table = scores(clips([0]))
    found, false = ({kind: row[i] for kind, row in table.items()} for i in (1, 2))
    assert sum(row[0] for row in table.values()) == 28 and sum(found.values()) >= 24, found
    assert sum(false.values()) <= 10, false


@pytest.mark.parametrize("size", [(1, 1), (17, 13), (5, 400)], ids=str)
def test_any_size_and_depth(size):
    dark, bright = np.zeros((*size, 3), np.uint16), np.full((*size, 3), 50000, np.uint16)
    assert cuts([dark, dark, bright, bright]) == [2]


def test_a_detector_goes_on_from_its_state():
    frames = scene(1, 9) + scene(2, 9)
    first, second = CutDetector(), CutDetector()
    for frame in frames[:7]:
        first(frame)
    second.load_state_dict(first.state_dict())
    assert [second(f) for f in frames[7:]] == [first(f) for f in frames[7:]]


@pytest.fixture
def clip(tmp_path, monkeypatch):
    frames = scene(1, 6) + scene(2, 5) + scene(3, 4)
    monkeypatch.setattr("tests.video.clips.picture", lambda width, height, index: frames[index])
    return write_clip(tmp_path / "in.mp4", 15, 160, 96)


@pytest.mark.parametrize("model", [Identity, Delayed])
def test_the_state_begins_anew_at_each_cut(tmp_path, clip, model):
    network = model()
    assert deblur(network, clip, tmp_path / "out.mp4", progress=False).frames == 15
    assert network.states == [*range(6), *range(5), *range(4)]
    times, frames, _ = probe(tmp_path / "out.mp4")
    before = probe(clip)
    assert times == before[0]
    assert (
        max(np.abs(a.astype(int) - b).mean() for a, b in zip(frames, before[1], strict=True)) < 10
    )  # hard edges in 4:2:0
    network = model()
    deblur(network, clip, tmp_path / "out.mp4", progress=False, scene_reset=False)
    assert network.states == list(range(15))


def test_an_ordinary_clip_has_no_cut():
    assert cuts([picture(64, 48, i) for i in range(40)]) == []
    assert cuts([picture(128, 96, i) for i in range(40)]) == []
