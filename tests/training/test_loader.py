"""From numbered clips to the pieces that steps work on."""

import pytest
import torch

from rirn import RirnError
from rirn.data.clips import ClipDataset
from rirn.data.sequences import find_sequences
from rirn.distributed import World
from rirn.training.loader import ClipNumbers, pieces
from tests.training.runs import config

CPU = torch.device("cpu")


def supply(data, tmp_path, first=0, steps=6, delay=0, world=None, **changes):
    settings = config(data, tmp_path, **changes).data
    clips = ClipDataset(find_sequences(data), frames=settings.frames, crop=settings.crop, seed=0)
    return list(pieces(clips, settings, world or World(CPU), first=first, steps=steps, delay=delay))


@pytest.mark.parametrize("delay", [0, 2])
def test_every_frame_of_a_clip_counts_once_and_alike(data, tmp_path, delay):
    clip = supply(data, tmp_path, steps=2, delay=delay, frames=6, chunk=3)
    whole = supply(data, tmp_path, steps=1, frames=6)[0]
    for group in ("blurry", "sharp"):
        assert torch.equal(torch.cat([getattr(p, group) for p in clip], 1), getattr(whole, group))
    assert [p.sharp.shape[1] for p in clip] == [3 - delay, 3 + delay]
    assert [(p.first, p.last) for p in clip] == [(True, False), (False, True)]
    # A piece's mean loss times its weight is the sum over its frames by the same divisor for all.
    assert [p.weight / p.sharp.shape[1] for p in clip] == pytest.approx([1 / 3, 1 / 3])


def test_resumed_supply_goes_on_where_it_was(data, tmp_path):
    whole = supply(data, tmp_path, frames=6, chunk=2)
    for first in (1, 3, 5):
        rest = supply(data, tmp_path, first=first, frames=6, chunk=2)
        assert [p.numbers for p in rest] == [p.numbers for p in whole[first:]]
        assert all(torch.equal(a.blurry, b.blurry) for a, b in zip(rest, whole[first:], strict=True))
    assert len(supply(data, tmp_path, steps=5, frames=6, chunk=2)) == 5  # ends within a clip


def test_workers_change_nothing(data, tmp_path):
    here, there = (supply(data, tmp_path, steps=3, workers=n) for n in (0, 2))
    assert all(torch.equal(a.sharp, b.sharp) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_share_the_joint_batch_in_order(size):
    shares = [list(ClipNumbers(range(5, 7), 8, World(CPU, rank, size))) for rank in range(size)]
    joint = [[n for share in shares for n in share[batch]] for batch in range(2)]
    assert joint == [list(range(40, 48)), list(range(48, 56))]


def test_uneven_share_is_refused():
    with pytest.raises(RirnError, match=r"data.batch must be a multiple of the 3 processes"):
        ClipNumbers(range(1), 8, World(CPU, 0, 3))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_frame_is_one_sentence(data, tmp_path, workers):
    import shutil

    shutil.copytree(data, tmp_path / "data")
    for path in (tmp_path / "data").rglob("blur/*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(RirnError) as caught:
        supply(tmp_path / "data", tmp_path, workers=workers)
    assert "\n" not in str(caught.value) and "is not an image that can be read" in str(caught.value)
    assert str(tmp_path) in str(caught.value).split()[0]
