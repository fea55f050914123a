"""Training clips: which frames, which pixels, the same for both halves, reproducible."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rirn import RirnError
from rirn.data import ClipDataset, find_sequences, read_image, write_sequence
from rirn.data.cache import FrameCache

FORK = {False: None, True: "fork"}


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
        clips = ClipDataset(sequences, frames=3, crop=8, seed=5)
        return list(DataLoader(clips, batch_size=2, num_workers=count))

    alone, beside = batches(0), batches(workers)
    assert len(alone) == len(beside) == 4
    for ours, theirs in zip(alone, beside, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_share_the_cache_and_its_limit(sequences, workers):
    clips = ClipDataset(sequences, frames=3, crop=8, seed=5)
    paths = [path for s in sequences for path in (*s.blurry, *s.sharp)]
    clips._cache = FrameCache(paths, 10 * 20 * 26 * 3)  # 10 frames
    loader = DataLoader(
        clips, sampler=range(20), num_workers=workers, multiprocessing_context=FORK[workers > 0]
    )
    plain = ClipDataset(sequences, frames=3, crop=8, seed=5, cache_mib=0)
    for _ in range(2):  # the second time many frames come from the cache
        for number, (blurry, sharp) in enumerate(loader):
            assert torch.equal(blurry[0], plain[number][0]) and torch.equal(sharp[0], plain[number][1])
        assert len(clips._cache) == 10 and len(plain._cache) == 0


def test_a_worker_that_is_not_forked_has_its_part_of_the_limit(sequences, monkeypatch):
    cache = FrameCache(sequences[1].sharp, 6 * 20 * 26 * 3)
    monkeypatch.setattr("torch.utils.data.get_worker_info", lambda: SimpleNamespace(num_workers=3))
    for made, kept in ((cache, 6), (pickle.loads(pickle.dumps(cache)), 2)):
        for path in sequences[1].sharp * 2:
            assert np.array_equal(made.read(path), read_image(path))
        assert len(made) == kept


def test_too_long_and_too_large(sequences):
    with pytest.raises(RirnError, match=r"the longest has 7; lower data\.frames$"):
        ClipDataset(sequences, frames=8, crop=8, seed=0)
    with pytest.raises(RirnError, match=r"26x20, smaller than the crop of 24 pixels; lower data\.crop"):
        ClipDataset(sequences, frames=2, crop=24, seed=0)


def test_frames_of_other_sizes_further_on(tmp_path):
    for name, sizes in (("a", (20, 20, 16, 16)), ("b", (20, 20, 20, 24))):
        write_sequence(tmp_path / name, [(np.zeros((s, s, 3), np.uint8),) * 2 for s in sizes])
    small, mixed = find_sequences(tmp_path)
    with pytest.raises(RirnError, match="16x16, smaller than the crop of 20 pixels"):
        list(map(ClipDataset([small], frames=2, crop=20, seed=0).__getitem__, range(9)))
    with pytest.raises(RirnError, match="is 24x24; frames of a sequence must be of one size, here 20x20"):
        list(map(ClipDataset([mixed], frames=4, crop=8, seed=0).__getitem__, range(9)))


def test_cache_keeps_what_fits(sequences):
    first, second = sequences[0].sharp[:2]
    cache = FrameCache((first, second, first), 20 * 26 * 3 + 1)
    images = [cache.read(path) for path in (first, second, first, second)]
    assert len(cache) == 1
    assert all(
        np.array_equal(image, read_image(p)) for image, p in zip(images, (first, second) * 2, strict=True)
    )
    assert np.shares_memory(images[2], cache.read(first)) and not np.shares_memory(
        images[1], cache.read(second)
    )


def test_memory_that_there_is_not(sequences):
    with pytest.raises(RirnError, match=r"no room for .* MiB of decoded frames .* lower cache_mib"):
        ClipDataset(sequences, frames=3, crop=8, seed=5, cache_mib=1 << 40)
