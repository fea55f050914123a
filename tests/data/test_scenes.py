"""Scenes of layers before a camera of any shutter."""

import numpy as np
import pytest
import torch

from rirn import RirnError
from rirn.data.defocus import over_disc
from rirn.data.scenes import Scene, _expose, _Layer, film_scene
from rirn.data.synthesis import SUBSTEPS, to_linear


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (3, 20, 24, 3)).astype(np.uint8)
    return list(coarse.repeat(8, 1).repeat(8, 2))


def film(photos, seed=1, frames=6, **settings):
    scene = Scene(**settings)
    return film_scene(photos, np.random.default_rng(seed), size=(48, 64), frames=frames, scene=scene)


def test_equal_seeds_make_equal_scenes(photos):
    first, again, other = film(photos), film(photos), film(photos, seed=2)
    assert first[0].shape == first[1].shape == (6, 48, 64, 3) and first[0].dtype == np.uint8
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_a_short_shutter_sees_fast_motion_sharp(photos):
    for seed in range(4):
        blurry, sharp = film(photos, seed, sharp_rate=1, still_rate=0.5, speed=(10, 20), layers=(2, 2))
        assert np.array_equal(blurry, sharp)
        assert not np.array_equal(sharp[0], sharp[-1])  # though it moves


def test_an_open_shutter_blurs_what_moves_and_nothing_else(photos):
    blurry, sharp = film(
        photos, still_rate=1, sharp_rate=0, exposure=(1, 1), speed=(10, 10), layers=(1, 1), changing_rate=0
    )
    differs = (blurry != sharp).any(-1)
    assert 0.01 < differs.mean() < 0.6
    never = ~(differs.any(0) | (sharp != sharp[0]).any((0, -1)))
    assert never.mean() > 0.2
    assert (sharp[:, never] == sharp[0][never]).all() and (blurry[:, never] == sharp[0][never]).all()


def test_changing_exposures_leave_some_frames_sharper(photos):
    settings = {
        "still_rate": 0,
        "sharp_rate": 0,
        "exposure": (1.0, 1.0),
        "tremor": (8.0, 8.0),
        "layers": (0, 0),
    }
    steady, changing = (film(photos, frames=24, changing_rate=rate, **settings) for rate in (0, 1))
    errors = [np.abs(b.astype(int) - s).mean((1, 2, 3)) for b, s in (steady, changing)]
    assert errors[1].min() < 0.3 * errors[0].min()


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_an_edge_that_moves_becomes_a_ramp_of_light(share):
    """16 pixels per interval: the light of a pixel is the share of the exposure in which the white half covers it."""
    light = torch.zeros(1, 4, 16, 200)
    light[:, :3, :, 100:] = 1
    light[:, 3] = 1
    path = np.zeros((SUBSTEPS, 4))
    path[:, 0] = 32 + 16 * (np.arange(SUBSTEPS) - SUBSTEPS // 2) / SUBSTEPS
    path[:, 1] = 8
    blurry, sharp = _expose([_Layer(light, path, "reflection")], 0, share, (16, 64))
    travel = 16 * share
    centres = np.arange(64) + 0.5
    expected = np.clip((centres - (32 - travel / 2)) / travel, 0, 1)
    assert np.abs(to_linear(blurry)[8, :, 0] - expected).max() < 1.5 / travel  # of a view per pixel
    assert np.array_equal(sharp[8, :, 0], np.where(centres > 32, 255, 0))


def test_what_is_out_of_focus_is_so_in_the_truth(photos):
    """The short shutter blurs nothing, so that both clips are the same; their edges are softer than those of the photos."""
    settings = {"sharp_rate": 1, "still_rate": 1, "layers": (0, 0)}
    edges = {}
    for rate in (0, 1):
        clips = [
            film(photos, seed, frames=1, defocus_rate=rate, defocus=(2, 4), **settings) for seed in range(8)
        ]
        assert all(np.array_equal(blurry, sharp) for blurry, sharp in clips)
        edges[rate] = np.mean([np.square(np.diff(sharp.astype(int), axis=2)).mean() for _, sharp in clips])
    assert edges[1] < 0.75 * edges[0]


def test_out_of_focus_a_point_is_a_disc():
    point = torch.zeros(1, 2, 21, 21)
    point[:, :, 10, 10] = 1
    disc = over_disc(point, 3)
    assert torch.allclose(disc.sum((2, 3)), torch.ones(1, 2))
    assert disc[0, 0, 10, 12] == disc[0, 0, 10, 10] > 0 == disc[0, 0, 10, 14]


def test_settings_out_of_range_are_refused(photos):
    with pytest.raises(RirnError, match=r"scene\.exposure .* got \[0\.5, 2\]"):
        Scene(exposure=(0.5, 2))
    with pytest.raises(RirnError, match=r"scene\.still_rate must lie in \[0, 1\]; got -1"):
        Scene(still_rate=-1)
    with pytest.raises(ValueError, match=r"a scene of 900x900 needs photos of at least half that size"):
        film_scene(photos, np.random.default_rng(0), size=(900, 900), frames=2)
