"""The two protocols on cases that can be counted by hand."""

import numpy as np
import pytest
import torch

import rirn
from rirn import RirnError
from rirn.data import find_sequences, read_image, write_sequence
from rirn.data.splits import OFFICIAL
from rirn.evaluation import PROTOCOLS, evaluate, evaluate_in_ranks, psnr, to_uint8


class Counter(torch.nn.Module):
    """Adds 10.6 levels for every frame that the state has seen before; so a score tells how old the state was."""

    lookback = delay = dropped = 0

    def __init__(self):
        super().__init__()
        self.zero = torch.nn.Parameter(torch.zeros(()))

    def step(self, frame, state):
        age = 0 if state is None else state
        return frame + 10.6 * age / 255, age + 1


class LateCounter(Counter):
    """The same two frames late, as if it read two frames on either side."""

    lookback = delay = 2

    def step(self, frame, state):
        waiting, age = state or ([], None)
        image, age = super().step(frame, age)
        waiting = [*waiting, image]
        return (waiting.pop(0) if len(waiting) > 2 else None), (waiting, age)

    def flush(self, state):
        return state[0]


def greys(folder, values, size=(12, 14)):
    frames = [np.full((*size, 3), value, np.uint8) for value in values]
    write_sequence(folder, [(frame, frame) for frame in frames])
    return find_sequences(folder)


def test_rirn_runs_a_sequence_whole(tmp_path):
    (score,) = evaluate(Counter(), greys(tmp_path / "s", [3] * 23), save_to=tmp_path / "out")
    assert [f.frame for f in score.per_frame] == [f"{i:06d}" for i in range(23)] and score.frames == 23
    levels = [int(read_image(tmp_path / "out/s" / f"{f.frame}.png")[0, 0, 0]) for f in score.per_frame]
    assert levels == [round(3 + 10.6 * age) for age in range(23)]  # rounded, the state never reset
    expected = [10 * np.log10(255**2 / (level - 3) ** 2) for level in levels[1:]]
    assert [f.psnr_out for f in score.per_frame[1:]] == pytest.approx(expected, abs=1e-9)
    assert score.per_frame[0].psnr_out == score.psnr_in == float("inf")


def test_estrnn_windows_margins_and_truncation(tmp_path):
    (score,) = evaluate(
        LateCounter(), greys(tmp_path / "s", [3] * 40), protocol="estrnn", save_to=tmp_path / "out"
    )
    # Windows 0..19, 16..35, and the last, from 32 on, moved back to 20..39. Scored: 2..17, 18..33, 34..37.
    assert [int(f.frame) for f in score.per_frame] == list(range(2, 38)) and score.frames == 36
    levels = [int(read_image(tmp_path / "out/s" / f"{f.frame}.png")[0, 0, 0]) for f in score.per_frame]
    expected = [*range(2, 18), *range(2, 18), *range(14, 18)]
    assert levels == [int(3 + 10.6 * age + 1e-3) for age in expected]


def test_estrnn_of_a_network_that_reads_one_frame_scores_all_in_windows_side_by_side(tmp_path):
    (score,) = evaluate(
        Counter(), greys(tmp_path / "s", [3] * 45), protocol="estrnn", save_to=tmp_path / "out"
    )
    # Windows 0..19, 20..39, and the last, from 40 on, moved back to 25..44, of which 40..44 are scored.
    assert [int(f.frame) for f in score.per_frame] == list(range(45)) and score.frames == 45
    levels = [int(read_image(tmp_path / "out/s" / f"{f.frame}.png")[0, 0, 0]) for f in score.per_frame]
    assert levels == [int(3 + 10.6 * age + 1e-3) for age in [*range(20), *range(20), *range(15, 20)]]


@pytest.mark.parametrize(
    ("name", "options", "around"),
    [
        ("ifi-rnn", {}, (0, 0)),
        ("ifi-rnn+rirn", {"past": 1, "future": 2}, (1, 2)),
        ("stfan+rirn", {}, (0, 0)),
        ("strcnn", {}, (2, 2)),
        ("strcnn+rirn", {"ends": "drop"}, (2, 2)),
        ("rdbn+gsa", {}, (2, 0)),
        ("estrnn", {"past": 3, "future": 1}, (3, 1)),
    ],
)
def test_frames_around_are_those_that_the_network_reads(name, options, around):
    model = rirn.create_model(name, width=0.1, **options)
    assert (model.lookback, model.delay) == around


def test_estrnn_counts_of_frames():
    estrnn = PROTOCOLS["estrnn"]
    assert estrnn.windows(20, 2, 2) == [(0, 20)] and estrnn.windows(21, 2, 2) == [(0, 20), (1, 21)]
    assert estrnn.windows(36, 2, 2) == [(0, 20), (16, 36)] and estrnn.windows(8, 2, 2) == [(0, 8)]
    assert [list(r) for _, r in estrnn.scored(21, 2, 2)] == [list(range(2, 18)), [18]]
    assert estrnn.windows(40) == [(0, 20), (20, 40)] and estrnn.windows(1) == [(0, 1)]
    for around in ((2, 2), (0, 0), (2, 0), (1, 3)):
        for frames in range(5, 140):
            numbers = [n for _, scored in estrnn.scored(frames, *around) for n in scored]
            assert numbers == list(range(around[0], frames - around[1]))
    gopro = OFFICIAL["GOPRO"]["test"].lengths.values()
    assert sum(len(r) for frames in gopro for _, r in estrnn.scored(frames, 2, 2)) == 1067
    assert sum(len(r) for frames in gopro for _, r in estrnn.scored(frames)) == 1111
    assert sum(len(r) for frames in gopro for _, r in PROTOCOLS["rirn"].scored(frames, 2, 2)) == 1111
    with pytest.raises(RirnError, match=r"leaves out the first 2 and the last 2 frames, .* has only 4"):
        estrnn.windows(4, 2, 2)
    with pytest.raises(
        RirnError, match="windows of 20 frames, too short for a network that reads 12 before and 8"
    ):
        estrnn.windows(30, 12, 8)


def test_truncation_is_not_rounding():
    frame = torch.tensor([-0.1, 0.9 / 255, 1.6 / 255, 1.2]).reshape(1, 1, 4).expand(3, 1, 4)
    assert to_uint8(frame)[0, :, 0].tolist() == [0, 1, 2, 255]
    assert to_uint8(frame, truncate=True)[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("name", ["strcnn", "estrnn"])
@pytest.mark.parametrize("ends", ["replicate", "drop"])
@pytest.mark.parametrize("protocol", ["rirn", "estrnn"])
def test_frames_of_models_that_look_ahead_meet_their_truth(tmp_path, name, ends, protocol):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (12, 16, 3), dtype=np.uint8) for _ in range(23)]
    write_sequence(tmp_path / "s", [(frame, frame) for frame in frames])
    # A residual model starts as the identity, so a frame that is compared with another one's truth shows.
    model = rirn.create_model(name, width=0.1, residual=True, ends=ends).eval()
    (score,) = evaluate(model, find_sequences(tmp_path), protocol=protocol)
    expected = range(23) if (ends, protocol) == ("replicate", "rirn") else range(2, 21)
    assert [int(f.frame) for f in score.per_frame] == list(expected)
    assert min(f.psnr_out for f in score.per_frame) > 48  # truncation may take one level


def test_too_few_frames_for_dropped_ends_are_refused_before_any_work(tmp_path):
    sequences = [*greys(tmp_path / "a", [3] * 5), *greys(tmp_path / "b", [3] * 4)]
    model = rirn.create_model("strcnn", width=0.1, ends="drop").eval()
    message = "b: the model gives no image for the first 2 and the last 2 frames, and the sequence has only 4"
    with pytest.raises(RirnError, match=message):
        evaluate_in_ranks(model, sequences, save_to=tmp_path / "out")
    with pytest.raises(RirnError, match=message):
        list(evaluate(model, sequences[1:], save_to=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_workers_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.integers(0, 256, (2, 12, 16, 3), dtype=np.uint8)) for _ in range(9)]
    write_sequence(tmp_path / "s", pairs)
    sequences = find_sequences(tmp_path)
    pytest.importorskip("skimage")
    alone, beside = (list(evaluate(Counter(), sequences, with_ssim=True, workers=n)) for n in (0, 3))
    assert alone == beside and alone[0].per_frame[4].psnr_in == psnr(*pairs[4])
    assert alone[0].ssim_in == pytest.approx(np.mean([f.ssim_in for f in alone[0].per_frame]))


def test_what_cannot_be_scored_is_named(tmp_path):
    class Broken(Counter):
        def step(self, frame, state):
            return frame * float("nan"), state

    sequences = greys(tmp_path / "s", [3] * 3)
    with pytest.raises(RirnError, match=r"restored .*000000\.png to values that are not finite"):
        list(evaluate(Broken(), sequences))
    greys(tmp_path / "other", [3] * 3, size=(12, 15))
    (tmp_path / "other/sharp/000001.png").replace(tmp_path / "s/sharp/000001.png")
    with pytest.raises(RirnError, match=r"000001\.png is 14x12 and its truth .* 15x12"):
        list(evaluate(Counter(), sequences, workers=2))
    pytest.importorskip("skimage")
    with pytest.raises(RirnError, match="at least 11x11 pixels; got 14x6"):
        list(evaluate(Counter(), greys(tmp_path / "low", [3], size=(6, 14)), with_ssim=True))
