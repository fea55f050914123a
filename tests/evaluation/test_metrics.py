"""Figures of quality against scikit-image, and scores of whole sequences."""

import math

import numpy as np
import pytest
import torch

import rirn
from rirn.data import find_sequences, write_sequence
from rirn.errors import RirnError
from rirn.evaluation import evaluate, frame_mean, laplacian_variance, psnr, ssim, to_uint8


def images(seed=0, size=(40, 52)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return np.clip(truth.astype(int) + rng.integers(-9, 10, truth.shape), 0, 255).astype(np.uint8), truth


def test_psnr_is_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    image, truth = images()
    assert psnr(image, truth) == pytest.approx(
        metrics.peak_signal_noise_ratio(truth, image, data_range=255), abs=1e-9
    )
    assert psnr(truth, truth) == math.inf
    assert psnr(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)) == 0


def test_ssim_is_one_only_for_equal_images():
    pytest.importorskip("skimage")
    image, truth = images()
    assert ssim(truth, truth) == pytest.approx(1) and 0.5 < ssim(image, truth) < 1


def test_variance_of_the_laplacian():
    dot = np.zeros((5, 5, 3), np.uint8)
    dot[2, 2] = 255  # its Laplacian is -4, and 1 at four neighbours, of the nine pixels inside
    assert laplacian_variance(dot) == pytest.approx(255**2 * (16 + 4) / 9)
    green = dot * np.array([0, 1, 0], np.uint8)
    assert laplacian_variance(green) == pytest.approx(0.7152**2 * laplacian_variance(dot))
    ramp = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None], (50, 7, 3))
    assert laplacian_variance(ramp) == pytest.approx(0, abs=1e-6)
    with pytest.raises(RirnError, match="at least 3x3 pixels; got 9x2"):
        laplacian_variance(np.zeros((2, 9, 3), np.uint8))


def test_frames_are_clamped_and_rounded():
    frame = torch.tensor([-0.2, 0.4999 / 255, 0.5001 / 255, 1.7]).reshape(1, 1, 4).expand(3, 1, 4)
    assert to_uint8(frame)[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("name", ["ifi-rnn", "strcnn"])  # strcnn looks two frames ahead
def test_scores_of_a_model_that_changes_nothing(tmp_path, name):
    pairs = [images(seed) for seed in range(3)]
    write_sequence(tmp_path / "three", pairs)
    write_sequence(tmp_path / "one", pairs[:1])
    model = rirn.create_model(
        name, width=0.2, residual=True
    ).eval()  # a residual model starts as the identity
    scores = list(evaluate(model, find_sequences(tmp_path)))
    assert [(s.sequence, s.frames) for s in scores] == [("one", 1), ("three", 3)]
    expected = [psnr(*pair) for pair in pairs]
    assert scores[1].psnr_in == scores[1].psnr_out == pytest.approx(np.mean(expected))
    assert frame_mean(scores, "psnr_out") == pytest.approx((expected[0] + sum(expected)) / 4)


def test_state_is_carried_within_a_sequence_and_not_between(tmp_path):
    pairs = [images(seed) for seed in range(2)]
    write_sequence(tmp_path / "a", pairs)
    write_sequence(tmp_path / "b", pairs)
    write_sequence(tmp_path / "c", pairs[1:])
    torch.manual_seed(0)
    model = rirn.create_model("ifi-rnn+rirn", width=0.2).eval()
    a, b, c = evaluate(model, find_sequences(tmp_path))
    assert a.psnr_out == b.psnr_out
    first = next(iter(evaluate(model, [find_sequences(tmp_path / "a")[0]])))
    assert first.psnr_out == a.psnr_out and c.psnr_out != a.psnr_out
