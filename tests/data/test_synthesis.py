"""Blur made from sharp material: linear light, the right exposure, the sharp frame in its middle."""

import numpy as np
import pytest

from rirn.data import Shake, average_frames, shake_photo
from rirn.data.synthesis import SUBSTEPS, from_linear, shrink_photo, to_linear, trajectory

STILL = Shake(tremor=0, drift=0, jerk_rate=0)


def photo(height=160, width=200, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


def test_light_round_trip_is_exact():
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(from_linear(to_linear(values)), values)
    assert from_linear(np.array([-1.0, 2.0])).tolist() == [0, 255]


def test_average_is_taken_in_linear_light():
    black, white = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    ((blurry, sharp),) = average_frames([black, white, white], 3)
    assert blurry[0, 0, 0] == round(255 * (2 / 3) ** (1 / 2.2)) == 212  # 170 without gamma
    assert np.array_equal(sharp, white)


def test_greys_are_converted_before_the_average():
    frames = [np.full((1, 1, 3), value, np.uint8) for value in (60, 60, 240)]
    ((blurry, _),) = average_frames(frames, 3)
    light = sum((value / 255) ** 2.2 for value in (60, 60, 240)) / 3
    assert blurry[0, 0, 0] == round(255 * light ** (1 / 2.2))


def test_exposures_do_not_overlap():
    frames = [np.full((1, 1, 3), i, np.uint8) for i in range(10)]
    assert [sharp[0, 0, 0] for _, sharp in average_frames(frames, 3)] == [1, 4, 7]
    assert [sharp[0, 0, 0] for _, sharp in average_frames(frames, 3, stride=2)] == [1, 3, 5, 7]
    assert [sharp[0, 0, 0] for _, sharp in average_frames(iter(frames), 3, stride=4, skip=3)] == [4, 8]
    assert list(average_frames(frames, 11)) == []
    for window in (0, 2):
        with pytest.raises(ValueError, match="window must be odd"):
            list(average_frames(frames, window))


def test_photos_shrink_in_linear_light():
    black, white = np.zeros((2, 3, 3), np.uint8), np.full((2, 3, 3), 255, np.uint8)
    board = np.concatenate([black, white])  # 4 x 3: the last column does not fill a square
    small = shrink_photo(np.concatenate([board[1:3], board[:2]]), 2)
    assert small.shape == (2, 1, 3) and small[:, 0, 0].tolist() == [round(255 * 0.5 ** (1 / 2.2)), 0]


def test_a_still_camera_gives_sharp_frames():
    source = photo()
    pairs = list(shake_photo(source, np.random.default_rng(0), size=(64, 80), frames=2, shake=STILL))
    assert len(pairs) == 2
    for blurry, sharp in pairs:
        assert blurry.shape == sharp.shape == (64, 80, 3) and blurry.dtype == np.uint8
        assert np.abs(blurry.astype(int) - sharp).max() <= 1


def test_the_view_is_a_piece_of_the_photo():
    source = photo()
    # The photo as large as the clip and no movement: the view is the photo itself.
    _, sharp = next(
        iter(shake_photo(source, np.random.default_rng(0), size=source.shape[:2], frames=1, shake=STILL))
    )
    assert np.abs(sharp.astype(int) - source).max() <= 1


def test_shaking_blurs_and_is_reproducible():
    make = lambda seed: list(shake_photo(photo(), np.random.default_rng(seed), size=(64, 80), frames=3))  # noqa: E731
    first, again, other = make(1), make(1), make(2)
    assert all(
        np.array_equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert not np.array_equal(first[0][0], other[0][0])
    detail = lambda image: np.abs(np.diff(image.astype(float), axis=1)).mean()  # noqa: E731
    assert all(detail(blurry) < detail(sharp) for blurry, sharp in first)


def test_drift_moves_the_view_by_its_speed():
    path = trajectory(np.random.default_rng(3), 30, Shake(tremor=0, drift=5, jerk_rate=0))
    assert path.shape == (30 * SUBSTEPS, 4)
    assert np.ptp(path[:, 0]) > 10 and np.allclose(path[:, 2:], 0)
    assert np.allclose(path.mean(0), 0)


def test_a_pan_keeps_one_speed_and_one_axis():
    shake = Shake(tremor=0, drift=0, pan=(5, 7), jerk_rate=0)
    axes = set()
    for seed in range(8):
        path = trajectory(np.random.default_rng(seed), 4, shake)
        speed = np.diff(path, axis=0) * SUBSTEPS
        assert np.allclose(speed, speed[0])
        (axis,) = np.flatnonzero(speed[0])
        assert 5 <= abs(speed[0, axis]) <= 7
        axes.add((axis, speed[0, axis] > 0))
    assert axes > {(0, True), (1, False)} or axes > {(0, False), (1, True)}
    # Movements without one are as they were before there was any: the generator draws nothing for it.
    still = trajectory(np.random.default_rng(0), 4, Shake(jerk_rate=0.5))
    assert still[0] == pytest.approx(
        [13.567156747605287, -14.811300626972454, -0.001555446492366875, 0.0029361744149404454], abs=1e-9
    )
