"""The numbers behind the figures, where they are known beforehand."""

import math

import pytest
import torch

from rirn import RirnError
from rirn.evaluation.metrics import psnr, to_uint8
from rirn.figures import reach
from rirn.figures.crops import Crop, telling_crop
from rirn.figures.cut import blurred, cut_scores
from rirn.figures.features import edge_correlations
from rirn.figures.gates import histogram, summary
from rirn.figures.reach import gradient_norms
from rirn.figures.states import Ablation, ablate, by_previous_error
from rirn.figures.subjects import find_clips, restored, walk
from tests.models.cases import small


def quick(name, **options):
    return small(name, torch.float32, **options)


def forgetful(name):
    """A model whose h, and so all that it knows of the past, is zero."""
    model = quick(name)
    last = model.base.cells[-1].update[-1]
    for parameter in last.parameters():
        parameter.zero_()
    return model


def random_clip(frames, height=16, width=20):
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["ifi-rnn+rirn", "strcnn+rirn"])
def test_steps_know_their_frames(name):
    model, clip = quick(name), random_clip(6)
    whole = model(clip[None])[0]
    steps = list(walk(model, iter(clip)))
    assert [step.number for step in steps] == list(range(6 - model.delay))
    for step in steps:
        assert torch.allclose(step.image, whole[step.number], atol=1e-5)
        assert torch.equal(step.blending.blended, step.after.blended)
    assert torch.equal(steps[1].before.inner, steps[0].after.inner)
    images = restored(model, list(clip))
    assert all(torch.allclose(images[t], whole[t], atol=1e-5) for t in range(6))


def test_states_that_are_zero_are_not_missed(data):
    (clip, _) = find_clips(data, frames=4)
    model = quick("ifi-rnn+rirn")
    for parameter in model.irm.parameters():
        parameter.zero_()
    *_, (step, error_map, ablation, figures) = ablate(model, clip)
    assert step.number == 3 and error_map.shape == (24, 32)
    assert torch.equal(ablation.without_inner, ablation.intact)
    assert not torch.equal(ablation.without_hidden, ablation.intact)
    frames = [frame for frame, _ in clip.tensors("cpu")]
    truths = [truth for _, truth in clip.tensors("cpu")]
    expected = [
        psnr(to_uint8(i), to_uint8(t))
        for i, t in zip(model(torch.stack(frames)[None])[0], truths, strict=True)
    ]
    assert figures["intact"] == pytest.approx(expected[3], abs=1e-2)
    assert figures["previous"] == pytest.approx(expected[2], abs=1e-2)
    *_, (_, _, ablation, _) = ablate(quick("ifi-rnn+irm"), clip)
    assert not torch.equal(ablation.without_inner, ablation.intact)


def test_loss_by_the_error_before():
    previous = torch.linspace(0.1, 1, 100).reshape(10, 10)
    intact = torch.ones(10, 10)
    ablation = Ablation(previous, intact, intact, torch.where(previous > 0.9, 2.0, 1.0))
    rows = by_previous_error([ablation])
    assert [row["blocks"] for row in rows] == [10] * 10
    assert rows[0]["previous_rmse"] < rows[-1]["previous_rmse"]
    assert all(row["loss_without_hidden_dB"] == 0 for row in rows)
    losses = [row["loss_without_inner_dB"] for row in rows]
    assert losses[0] == 0 and losses[-1] == pytest.approx(10 * math.log10(2))


@pytest.mark.parametrize("name", ["ifi-rnn+rirn", "strcnn"])
def test_reach_is_the_norm_of_the_jacobian(name, monkeypatch):
    monkeypatch.setattr(reach, "PROBES", 60)
    model, clip, lags = quick(name), random_clip(5, 4, 4), 2
    t = 4 - model.delay
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0, t], clip)
    squares = jacobian.square().sum((0, 1, 2, 4, 5, 6)) / (3 * 4 * 4)
    expected = [squares[t - k].sqrt().item() for k in range(lags + 1)]
    assert gradient_norms(model, clip, lags) == pytest.approx(expected, rel=0.25)


def test_reach_of_a_model_that_forgets_is_one_frame():
    norms = gradient_norms(forgetful("ifi-rnn"), random_clip(5), 3)
    assert norms[0] > 0 and norms[1:] == [0, 0, 0]


@pytest.mark.parametrize("name", ["ifi-rnn+rirn", "strcnn"])
def test_cut_compares_with_the_whole_clip(name):
    model, clip = quick(name), random_clip(14)
    update = model.base.cells[0].update[-1] if name.startswith("ifi") else model.base.state_update[0]
    update.weight.mul_(20)  # an untrained network hardly looks at what it remembers
    truth = random_clip(14).flip(0)
    whole = model(clip[None])[0]
    rows = cut_scores(model, clip, truth)
    assert [(row["t"], row["after"]) for row in rows] == [
        (t, j) for t in ((6, 10) if not model.delay else (6,)) for j in range(4)
    ]
    for row in rows:
        number = row["t"] + row["after"]
        assert row["intact_dB"] == pytest.approx(
            psnr(to_uint8(whole[number]), to_uint8(truth[number])), abs=1e-3
        )
    assert abs(rows[0]["intact_dB"] - rows[0]["cut_dB"]) > 0.01
    changed = torch.cat([clip[:3], blurred(clip[3:6]), clip[6:]])
    again = model(changed[None])[0]
    for row in rows[:4]:
        number = row["t"] + row["after"]
        assert row["cut_dB"] == pytest.approx(
            psnr(to_uint8(again[number]), to_uint8(truth[number])), abs=1e-3
        )


def test_cut_costs_nothing_without_a_memory():
    rows = cut_scores(forgetful("ifi-rnn"), random_clip(10), random_clip(10))
    assert rows and all(row["intact_dB"] == row["cut_dB"] == row["fresh_dB"] for row in rows)


def test_blur():
    flat = torch.full((1, 3, 20, 24), 0.3)
    assert torch.allclose(blurred(flat), flat)
    point = torch.zeros(1, 3, 81, 81)
    point[..., 40, 40] = 1
    spread = blurred(point)
    places = torch.arange(81.0) - 40
    assert spread.sum() == pytest.approx(3, rel=1e-4)
    assert (spread[0, 0].sum(0) * places**2).sum() == pytest.approx(36, rel=0.05)


def test_sums_of_gates(data):
    clips = find_clips(data, frames=4)
    model = quick("ifi-rnn+atb")
    half, channels = model.atb.channels // 2, model.atb.channels
    for branch, biases in ((model.atb.branch_prev, [1 / 4] * 2), (model.atb.branch_cur, [1 / 2, 7 / 8])):
        branch.conv2.weight.zero_()
        branch.conv2.bias[:half], branch.conv2.bias[half:] = torch.logit(torch.tensor(biases))
    counts = histogram(model, clips)
    assert counts.sum() == 2 * 3 * channels * 6 * 8  # clips, frames after the first, places
    found = summary(counts)
    assert found["share_below_1"] == pytest.approx(half / channels) and found["share_at_1"] == 0
    assert found["share_above_1"] == pytest.approx(1 - half / channels)
    assert found["median"] == pytest.approx(0.75, abs=0.002)
    for name in ("ifi-rnn+dtb", "strcnn"):
        assert summary(histogram(quick(name), clips[:1]))["share_at_1"] == 1
    drop = quick(
        "strcnn+rirn", ends="drop"
    )  # four of eight frames have an image, the first of them nothing to blend with
    counts = histogram(drop, find_clips(data, sequences=1, frames=8))
    assert counts.sum() == 3 * drop.atb.channels * 24 * 32 // drop.stride**2


def test_edges_of_features():
    truth = random_clip(1, 24, 32)[0]
    luma = torch.einsum("c,chw->hw", torch.tensor([0.2126, 0.7152, 0.0722]), truth)
    small_luma = torch.nn.functional.avg_pool2d(luma[None], 4)
    same = edge_correlations(small_luma.repeat(4, 1, 1), truth)
    assert same == pytest.approx({"edges": 1, "mean_edges": 1})
    opposite = edge_correlations(torch.cat([small_luma, -small_luma]), truth)
    assert opposite == pytest.approx({"edges": 1, "mean_edges": 0})
    other = edge_correlations(random_clip(1, 24, 32)[0, :, ::4, ::4].flip(1, 2), truth)
    assert abs(other["edges"]) < 0.6


def test_crops():
    truth = (random_clip(1, 30, 42)[0].permute(1, 2, 0) * 255).byte().numpy()
    blurry = truth.copy()
    blurry[12:20, 20:30] += 100
    crop = telling_crop(blurry, truth)
    assert (crop.width, crop.height) == (14, 10)
    assert crop.left <= 20 and crop.left + 14 >= 30 and crop.top <= 12 and crop.top + 10 >= 20
    striped = truth * 0
    striped[2:9, 3:12:2] = 255
    crop = telling_crop(striped, None)
    assert crop.left <= 3 and crop.left + 14 >= 12 and crop.top <= 2
    assert Crop.parse("160x120+300+80") == Crop(160, 120, 300, 80)
    for text in ("160x120", "0x10+1+1", "a"):
        with pytest.raises(RirnError, match="--crop must be of the form"):
            Crop.parse(text)
    with pytest.raises(RirnError, match=r"--crop 40x10\+10\+0 reaches out of frames of 42x30"):
        Crop(40, 10, 10, 0).of(truth)
