"""Frames between frames: where things are at that moment."""

import numpy as np
import pytest

from rirn.data import average_frames
from rirn.data.interpolation import interpolate_frames
from rirn.evaluation import psnr


def scene(seed=0, size=(72, 120)):
    """A smooth random texture, uint8 [H, W, 3]."""
    light = np.random.default_rng(seed).normal(size=(*size, 3))
    for axis in (0, 1):
        for _ in range(3):
            light = sum(np.roll(light, shift, axis) for shift in range(-2, 3)) / 5
    return np.clip(128 + 50 * light / light.std(), 0, 255).astype(np.uint8)


def view(x, width=80):
    """What a camera sees that has moved x pixels to the right."""
    return scene()[:, 10 + x : 10 + x + width]


def test_a_moving_view_is_where_it_would_be():
    pytest.importorskip("skimage")
    frames = [view(0), view(4), view(8)]
    dense = list(interpolate_frames(iter(frames), 4, workers=2))
    assert len(dense) == 9 and all(np.array_equal(dense[4 * i], frame) for i, frame in enumerate(frames))
    inner = np.s_[8:-8, 12:-12]
    for x in range(9):
        assert psnr(dense[x][inner], view(x)[inner]) > 36, x
    assert psnr(view(1)[inner], view(2)[inner]) < 32  # a pixel off would show
    alone = list(interpolate_frames(iter(frames), 4))
    assert all(np.array_equal(a, b) for a, b in zip(dense, alone, strict=True))


def test_made_blur_is_that_of_a_camera_and_not_of_ghosts():
    pytest.importorskip("skimage")
    ((truth, _),) = average_frames([view(x) for x in range(13)], 13)
    frames = [view(0), view(6), view(12)]
    ((made, sharp),) = average_frames(interpolate_frames(frames, 6), 13)
    ((ghosts, _),) = average_frames(frames, 3)
    inner = np.s_[8:-8, 16:-16]
    assert np.array_equal(sharp, view(6))
    assert psnr(made[inner], truth[inner]) > psnr(ghosts[inner], truth[inner]) + 8


def test_too_few_frames_have_nothing_between():
    assert list(interpolate_frames([], 4)) == []
    (only,) = interpolate_frames([view(0)], 4)
    assert np.array_equal(only, view(0))
