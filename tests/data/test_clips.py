"""Training clips: which frames, which pixels, the same for both halves, reproducible."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rirn import RirnError
from rirn.data import ClipDataset, find_sequences, write_sequence
from rirn.data.sequences import FrameCache


@pytest.fixture
def sequences(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("a", 5), ("b", 7), ("short", 2)):
        sharp = [rng.integers(0, 256, (20, 26, 3), dtype=np.uint8) for _ in range(count)]
        # Blurry = inverted sharp: any difference between the two cuts shows.
        write_sequence(tmp_path / name, [(255 - s, s) for s in sharp])
    return find_sequences(tmp_path)


def test_shapes_range_and_pairing(sequences):
    clips = ClipDataset(sequences, frames=3, crop=12, seed=1)
    assert len(clips) == 3 + 5
    for number in range(20):
        blurry, sharp = clips[number]
        assert blurry.shape == sharp.shape == (3, 3, 12, 12) and blurry.dtype == torch.float32
        assert blurry.min() >= 0 and blurry.max() <= 1
        torch.testing.assert_close(blurry + sharp, torch.ones_like(blurry))


def test_clips_are_consecutive_frames_of_one_orientation(sequences):
    from rirn.data import read_image

    clips = ClipDataset(sequences, frames=3, crop=20, seed=2)
    starts, turned = set(), set()
    for number in range(60):
        _, sharp = clips[number]
        clip = sharp.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
        matches = [
            (s.name, start, turns, flip)
            for s in sequences
            for start in range(len(s) - 2)
            for turns in range(4)
            for flip in (False, True)
            if all(_is_crop(clip[i], read_image(s.sharp[start + i]), turns, flip) for i in range(3))
        ]
        assert len(matches) == 1
        starts.add(matches[0][:2])
        turned.add(matches[0][2:])
    assert len(starts) == 8 and len(turned) == 8  # every start and every orientation occurs


def _is_crop(image, frame, turns, flip):
    back = np.rot90(image, -turns)
    back = back[:, ::-1] if flip else back
    return any(np.array_equal(back, frame[:, x : x + 20]) for x in range(frame.shape[1] - 19))


def test_a_number_is_a_clip(sequences):
    first, second = (ClipDataset(sequences, frames=3, crop=8, seed=5) for _ in range(2))
    numbers = [7, 0, 3]
    clips = {n: first[n][0] for n in numbers}
    assert all(torch.equal(second[n][0], clips[n]) for n in reversed(numbers))
    other = ClipDataset(sequences, frames=3, crop=8, seed=6)
    assert not all(torch.equal(other[n][0], clips[n]) for n in numbers)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_workers(sequences, workers):
    def batches(count):
        clips = ClipDataset(sequences, frames=3, crop=8, seed=5, reverse=True)
        return list(DataLoader(clips, batch_size=2, num_workers=count))

    alone, beside = batches(0), batches(workers)
    assert len(alone) == len(beside) == 4
    for ours, theirs in zip(alone, beside, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_reversal_turns_half_of_the_clips_and_nothing_else(sequences):
    forward, either = (
        ClipDataset(sequences, frames=3, crop=8, seed=5, reverse=reverse) for reverse in (False, True)
    )
    turned = 0
    for number in range(40):
        for plain, clip in zip(forward[number], either[number], strict=True):
            assert torch.equal(clip, plain) != torch.equal(clip, plain.flip(0))
            turned += torch.equal(clip, plain.flip(0))
    assert turned % 2 == 0 and 20 < turned < 60  # both halves of a clip together, about every second


def test_workers_divide_the_memory_of_the_cache(sequences):
    class Kept(ClipDataset):
        def __getitem__(self, number):
            super().__getitem__(number)
            return len(self._cache._frames)

    for workers, kept in ((0, 10), (2, 5)):
        clips = Kept(sequences, frames=3, crop=8, seed=5)
        clips._cache = FrameCache(10 * 20 * 26 * 3)
        assert max(DataLoader(clips, batch_size=None, sampler=range(20), num_workers=workers)) == kept


def test_too_long_and_too_large(sequences):
    with pytest.raises(RirnError, match="the longest has 7"):
        ClipDataset(sequences, frames=8, crop=8, seed=0)
    with pytest.raises(RirnError, match="at least the crop of 24"):
        ClipDataset(sequences, frames=2, crop=24, seed=0)[0]
