"""What cameras and codecs do to clips: size, tone, noise, compression."""

import dataclasses
import io
import sys

import numpy as np
import pytest

from rirn import RirnError
from rirn.data.camera import IDEAL, Camera, add_noise, resize, through_h264, through_jpeg, tone_curve
from rirn.data.synthesis import from_linear
from rirn.evaluation import psnr


@pytest.fixture(scope="module")
def clip():
    """Five frames of smooth colours that drift."""
    y, x = np.mgrid[:34, :46]
    frames = [np.stack([x * 5, y * 7, (x + y) * 3], -1) + 3 * i for i in range(5)]
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def always(**changes):
    """A camera that makes these changes to every clip, and no other."""
    return dataclasses.replace(
        IDEAL, **{f"{name}_rate": 1 for name in changes}, **{n: v for n, v in changes.items() if v}
    )


def test_the_ideal_camera_changes_nothing(clip):
    blurry, sharp = IDEAL.film(clip, clip[::-1], np.random.default_rng(0))
    assert np.array_equal(blurry, clip) and np.array_equal(sharp, clip[::-1])
    assert IDEAL.draw_scale(np.random.default_rng(0)) == 1


def test_equal_seeds_make_equal_clips_and_draw_alike(clip):
    camera = Camera(tone_rate=1, noise_rate=1)
    first, second = (camera.film(clip, clip, np.random.default_rng(3))[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, camera.film(clip, clip, np.random.default_rng(4))[0])
    ends = []
    for camera in (IDEAL, Camera(tone_rate=1, noise_rate=1, h264_rate=1)):
        rng = np.random.default_rng(5)
        camera.film(clip, clip, rng)
        ends.append(rng.random())
    assert ends[0] == ends[1]


def test_tone_is_of_the_scene_and_noise_of_the_input(clip):
    blurry, sharp = always(tone=None).film(clip, clip, np.random.default_rng(1))
    assert np.array_equal(blurry, sharp) and not np.array_equal(sharp, clip)
    blurry, sharp = always(noise=(6.0, 6.0)).film(clip, clip, np.random.default_rng(1))
    assert np.array_equal(sharp, clip) and not np.array_equal(blurry, clip)


def test_defocus_is_of_the_scene(clip):
    checks = np.indices(clip.shape[1:3]).sum(0)[None, ..., None] % 2 * np.full_like(clip, 255)
    seen = [always(defocus=(2.0, 4.0)).film(checks, checks, np.random.default_rng(seed)) for seed in range(8)]
    assert all(np.array_equal(blurry, sharp) and not np.array_equal(sharp, checks) for blurry, sharp in seen)
    grey = from_linear(np.float32(0.5))  # of as much light as black and white together
    flat = [np.abs(sharp.astype(int) - grey).max((0, 3))[5:-5, 5:-5] <= 12 for _, sharp in seen]
    assert all(part.any() for part in flat) and not all(part.all() for part in flat)  # along one side


def test_tone_curve():
    assert np.array_equal(tone_curve(1, 1), np.arange(256))
    assert tone_curve(2, 1)[100] == pytest.approx(100 * 2 ** (1 / 2.2), abs=1)
    assert np.array_equal(tone_curve(1, 0.5)[[0, 128, 255]], [64, 128, 192])


@pytest.mark.parametrize("level", [32, 128, 200])
def test_noise_grows_with_the_light(level):
    grey = np.full((4, 100, 100, 3), level, np.uint8)
    noisy = add_noise(grey, 4, np.random.default_rng(0)).astype(float)
    assert noisy.mean() == pytest.approx(level, abs=0.1)
    assert noisy.std() == pytest.approx(4 * np.sqrt(0.5 + level / 256), rel=0.02)  # rounding adds 1/12


def test_h264_damages_more_at_a_higher_factor(clip):
    odd = clip[:, :33, :45]
    scores = [psnr(through_h264(odd, crf), odd) for crf in (10, 25, 45)]
    assert scores[0] > 35 and scores[0] > scores[1] > scores[2]
    assert through_h264(odd, 25).shape == odd.shape
    later = [psnr(a, b) for a, b in zip(through_h264(odd, 10), odd, strict=True)]
    assert min(later) > 35  # no frame is another one's


def test_jpeg_damages_more_at_a_lower_quality(clip):
    scores = [psnr(through_jpeg(clip, quality), clip) for quality in (95, 30)]
    assert scores[0] > scores[1] + 1
    assert through_jpeg(clip, 95).shape == clip.shape


@pytest.mark.parametrize(("width", "tree"), [(32, 0), (254, 0), (256, 1)])
def test_small_clips_come_out_in_the_same_bits(width, tree, monkeypatch):
    """By what the encoder writes of its options: other bits are too rare to wait for."""
    files, new = [], io.BytesIO
    monkeypatch.setattr(io, "BytesIO", lambda *given: files.append(new(*given)) or files[-1])
    noise = np.random.default_rng(0).integers(0, 255, (2, 32, width, 3), dtype=np.uint8)
    assert through_h264(noise, 23).shape == noise.shape
    assert f" mbtree={tree} ".encode() in files[0].getvalue()


@pytest.mark.parametrize("codec", ["h264", "jpeg"])
def test_the_truth_stays_clean_unless_told(clip, codec):
    camera = dataclasses.replace(IDEAL, **{f"{codec}_rate": 1}, crf=(30, 30), jpeg=(30, 30))
    blurry, sharp = camera.film(clip, clip, np.random.default_rng(0))
    assert np.array_equal(sharp, clip) and not np.array_equal(blurry, clip)
    blurry, sharp = dataclasses.replace(camera, spoil_truth=True).film(clip, clip, np.random.default_rng(0))
    assert np.array_equal(sharp, blurry) and not np.array_equal(sharp, clip)


def test_resize_keeps_the_mean_and_hides_no_detail():
    checks = np.indices((32, 32)).sum(0) % 2 * 200
    frame = np.repeat(checks[..., None], 3, 2).astype(np.uint8)
    small = resize(frame[None], (16, 16))
    assert small.shape == (1, 16, 16, 3)
    assert np.abs(small[0, 4:-4, 4:-4].astype(int) - 100).max() <= 2  # without the wider filter: 0 or 200
    assert np.array_equal(resize(np.full((2, 8, 8, 3), 77, np.uint8), (5, 6)), np.full((2, 5, 6, 3), 77))


def test_scales_are_drawn_from_their_range():
    camera = Camera(scale_rate=0.5, scale=(0.5, 0.75))
    scales = [camera.draw_scale(np.random.default_rng(i)) for i in range(400)]
    drawn = [scale for scale in scales if scale != 1]
    assert 0.4 < len(drawn) / len(scales) < 0.6
    assert 0.5 <= min(drawn) < 0.52 and 0.73 < max(drawn) <= 0.75


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_rate": 1.5}, r"camera\.noise_rate must lie in \[0, 1\]; got 1\.5"),
        ({"scale": (0.9, 0.5)}, r"camera\.scale .* got \[0\.9, 0\.5\]"),
        ({"crf": (17, 99)}, r"camera\.crf .* <= 51; got \[17, 99\]"),
        ({"defocus": (0.0, 4.0)}, r"camera\.defocus .* got \[0\.0, 4\.0\]"),
        ({"jpeg": (0, 50)}, r"camera\.jpeg .* got \[0, 50\]"),
        ({"noise": (-1.0, 2.0)}, r"camera\.noise .* got \[-1\.0, 2\.0\]"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(RirnError, match=message):
        Camera(**settings)


def test_without_pyav_the_sentence_names_the_cure(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RirnError, match=r"need PyAV: pip install av, or set camera\.h264_rate to 0"):
        through_h264(clip, 20)
