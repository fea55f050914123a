"""Clips of several sources in shares."""

import collections
import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rirn import RirnError
from rirn.data import MixedClips, Pairing, Shutter, Source, write_png, write_sequence
from rirn.data.camera import IDEAL, Camera
from rirn.data.layouts import find_footage
from rirn.data.sources import to_and_fro
from rirn.data.synthesis import from_linear, to_linear

FRAMES = 20


def flat(level):
    """A frame whose left half is darker, so that a flip or a rotation shows."""
    frame = np.full((24, 30, 3), level, np.uint8)
    frame[:, :15] //= 2
    return frame


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Pairs whose sharp frames are of level 5 i and whose blurry ones are a level lighter, raw frames of level 10 i, photos."""
    root = tmp_path_factory.mktemp("data")
    write_sequence(root / "pairs" / "one", ((flat(5 * i + 1), flat(5 * i)) for i in range(1, FRAMES)))
    raw = root / "elsewhere" / "raw"
    raw.mkdir(parents=True)
    for i in range(FRAMES):
        write_png(raw / f"{i:03d}.png", flat(10 * i))
    (root / "raw").symlink_to(root / "elsewhere", target_is_directory=True)
    (root / "photos").mkdir()
    for i in range(2):
        write_png(
            root / "photos" / f"{i}.png",
            np.random.default_rng(i).integers(0, 255, (80, 90, 3)).astype(np.uint8),
        )
    return root


def clips(*sources, **settings):
    settings = {"frames": 5, "crop": 16, "seed": 0, "camera": IDEAL} | settings
    return MixedClips(list(sources), **settings)


def levels(clip):
    """The level of each frame, from its lighter half."""
    return [round(float(frame.max()) * 255) for frame in clip]


def test_a_number_is_one_clip_whoever_asks(root):
    sources = [Source(root / name, kind) for name, kind in KINDS]
    mixed, again = (clips(*sources, camera=Camera()) for _ in range(2))
    wanted = list(range(12))
    first = {i: mixed[i] for i in wanted}
    for i in reversed(wanted):
        for a, b in zip(first[i], again[i], strict=True):
            assert a.shape == (5, 3, 16, 16) and a.dtype == torch.float32 and torch.equal(a, b)
    loaded = list(DataLoader(mixed, batch_size=1, sampler=wanted, num_workers=2))
    assert all(torch.equal(batch[0][0], first[i][0]) for i, batch in enumerate(loaded))
    assert [mixed.source(i) for i in wanted] == [again.source(i) for i in wanted]
    assert not torch.equal(first[0][0], clips(*sources, seed=1, camera=Camera())[0][0])


KINDS = (("pairs", "pairs"), ("pairs", "sharp"), ("raw", "highspeed"), ("photos", "photos"))


def test_shares_are_kept(root):
    mixed = clips(Source(root / "pairs", share=3), Source(root / "photos", "photos", share=1))
    kinds = collections.Counter("photos" in mixed.source(i) for i in range(2000))
    assert kinds[True] / 2000 == pytest.approx(0.25, abs=0.03)


def test_pairs_stay_pairs_forwards_and_backwards(root):
    mixed = clips(Source(root / "pairs"))
    steps = set()
    for i in range(30):
        blurry, sharp = map(levels, mixed[i])
        assert [b - s for b, s in zip(blurry, sharp, strict=True)] == [1] * 5
        steps |= set(np.diff(sharp))
    assert steps == {5, -5}


def test_pairs_may_lose_blur_or_every_second_frame(root, tmp_path):
    pairs = ((flat(200), flat(10 * i)) for i in range(FRAMES))
    write_sequence(tmp_path / "one", pairs)
    skipping = Pairing(mix_rate=0.5, mix=(0.25, 0.25), skip_rate=0.5)
    mixed = clips(Source(tmp_path), pairing=skipping)
    found = collections.Counter()
    for i in range(60):
        blurry, sharp = map(levels, mixed[i])
        light = [0.25 * to_linear(np.array([200])) + 0.75 * to_linear(np.array([s])) for s in sharp]
        less = [int(from_linear(value)[0]) for value in light]
        assert blurry in (less, [200] * 5)
        (step,) = {abs(int(d)) for d in np.diff(sharp)}
        found[blurry == less, step] += 1
    assert set(found) == {(a, b) for a in (True, False) for b in (10, 20)} and min(found.values()) >= 6
    # A sequence too short for every second frame gives all of them.
    whole = clips(Source(tmp_path), pairing=Pairing(skip_rate=1.0), frames=FRAMES)
    assert {abs(int(d)) for d in np.diff(levels(whole[0][1]))} == {10}


@pytest.mark.parametrize(
    "wrong", [{"mix_rate": 1.5}, {"skip_rate": -1}, {"mix": (0.9, 0.1)}, {"mix": (0, 2)}]
)
def test_wrong_pairings_are_refused(wrong):
    with pytest.raises(RirnError, match=rf"pairing\.{next(iter(wrong))} must"):
        Pairing(**wrong)


def test_sharp_footage_is_its_own_truth(root):
    mixed = clips(Source(root / "pairs", "sharp"))
    for i in range(10):
        blurry, sharp = mixed[i]
        assert torch.equal(blurry, sharp)
        assert all(level % 5 == 0 for level in levels(sharp))  # never a blurry frame


@pytest.mark.parametrize(("windows", "stride"), [((1, 1), 1), ((3, 3), 2), ((7, 7), 3), ((5, 5), 4)])
def test_exposures_are_means_of_light_around_the_sharp_frame(root, windows, stride):
    shutter = Shutter(sharp_rate=0, windows=windows, strides=(stride, stride), changing_rate=0)
    mixed = clips(Source(root / "raw", "highspeed"), shutter=shutter, frames=3)
    for i in range(10):
        blurry, sharp = map(levels, mixed[i])
        # Which frames these are is known from their levels, and which way time runs does not matter to a mean.
        for level, truth in zip(blurry, sharp, strict=True):
            centre, half = truth // 10, windows[0] // 2
            around = [to_and_fro(j, FRAMES) for j in range(centre - half, centre + half + 1)]
            light = np.mean([to_linear(np.array([10 * j], np.uint8)) for j in around])
            assert level == int(from_linear(np.array([light]))[0])
        walks = [
            [10 * to_and_fro(start + step * j, FRAMES) for j in range(3)]
            for start in range(FRAMES)
            for step in (stride, -stride)
        ]
        assert sharp in walks


def test_changing_shutters_differ_within_a_clip(root):
    shutter = Shutter(sharp_rate=0, windows=(9, 9), strides=(1, 1), changing_rate=1)
    counts = [shutter.draw(np.random.default_rng(i), 12)[1] for i in range(20)]
    assert all(count % 2 == 1 and 1 <= count <= 9 for row in counts for count in row)
    assert sum(len(set(row)) > 1 for row in counts) >= 19
    steady = Shutter(sharp_rate=0, windows=(3, 15), changing_rate=0)
    assert {steady.draw(np.random.default_rng(i), 2)[1][0] for i in range(200)} == {3, 5, 7, 9, 11, 13, 15}


def test_to_and_fro():
    assert [to_and_fro(i, 4) for i in range(-4, 9)] == [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert to_and_fro(7, 1) == 0


def test_smaller_clips_are_whole_frames_shrunk(root):
    camera = Camera(scale_rate=1, scale=(0.7, 0.7), tone_rate=0, noise_rate=0, h264_rate=0, jpeg_rate=0)
    blurry, sharp = clips(Source(root / "pairs", "sharp"), camera=camera)[0]
    assert sharp.shape[-2:] == (16, 16) and torch.equal(blurry, sharp)


def test_footage_is_found_through_links_and_never_blurry(root):
    found = {os.path.relpath(folder, root) for folder in find_footage(root)}
    assert found >= {"pairs/one/sharp", "photos"} and "pairs/one/blur" not in found
    assert {"raw/raw", "elsewhere/raw"} & found


def frames_in(*folders):
    for folder in folders:
        folder.mkdir(parents=True)
        write_png(folder / "0.png", np.zeros((8, 8, 3), np.uint8))


def test_no_blurry_folder_beside_a_sharp_one_is_footage(tmp_path):
    """GOPRO has two of them, and raw frames lie in those of BSD."""
    gopro, bsd = tmp_path / "train" / "GOPR0372_07_00", tmp_path / "BSD_1ms8ms" / "000"
    frames_in(gopro / "sharp", gopro / "blur", gopro / "blur_gamma")
    frames_in(bsd / "Sharp" / "RGB", bsd / "Blur" / "RGB", bsd / "Blur" / "RAW")
    found = {folder.relative_to(tmp_path).as_posix() for folder in find_footage(tmp_path)}
    assert found == {"train/GOPR0372_07_00/sharp", "BSD_1ms8ms/000/Sharp/RGB"}


@pytest.mark.parametrize("kind", ["sharp", "highspeed", "pairs"])
def test_frames_of_one_clip_have_one_size(tmp_path, kind):
    """A crop of a frame of twice the size would show something else."""
    small, large = flat(9), np.repeat(np.repeat(flat(9), 2, 0), 2, 1)
    write_sequence(tmp_path, [(small, large)] * 3 if kind == "pairs" else [(small, small), (large, large)])
    mixed = clips(Source(tmp_path, kind), frames=2)
    with pytest.raises(RirnError, match=r"frames of a sequence must be of one size, here (30x24|60x48)$"):
        [mixed[i] for i in range(9)]


@pytest.mark.parametrize("kind", ["sharp", "highspeed", "pairs"])
def test_only_the_split_that_is_asked_for(tmp_path, kind):
    for split in ("train", "test"):
        frames_in(*(tmp_path / split / f"of-{split}" / half for half in ("sharp", "blur")))
    source = Source(tmp_path, kind)
    mixed = MixedClips([source], frames=1, crop=8, seed=0, split="train")
    assert all("of-train" in mixed.source(i) for i in range(20))
    with pytest.raises(RirnError, match=r"split .val.; those in it belong to test, train$"):
        MixedClips([source], frames=1, crop=8, seed=0, split="val")


@pytest.mark.parametrize(
    ("kind", "name", "settings", "message"),
    [
        ("photos", "nowhere", {}, "there is no folder .*nowhere"),
        ("sharp", "nowhere", {}, "there is no folder .*nowhere"),
        ("photos", "pairs", {}, "holds no photo"),
        (
            "pairs",
            "pairs",
            {"frames": 50},
            "no sequence has the 50 frames of a clip, the longest has 19; lower data.frames$",
        ),
        ("sharp", "pairs", {"crop": 25}, r"is 30x24, smaller than the crop of 25 pixels"),
        ("pairs", "pairs", {"crop": 25}, r"is 30x24, smaller than the crop of 25 pixels"),
        ("photos", "photos", {"crop": 99}, r"is 90x80, smaller than the crop of 99 pixels"),
    ],
)
def test_what_does_not_fit_is_refused(root, kind, name, settings, message):
    with pytest.raises(RirnError, match=message):
        clips(Source(root / name, kind), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "video"}, "kind of a source must be one of pairs, sharp, highspeed, photos; got 'video'"),
        ({"share": 0}, "share of a source must be positive and finite; got 0"),
        ({"share": float("inf")}, "share of a source must be positive"),
    ],
)
def test_sources_are_checked(root, settings, message):
    with pytest.raises(RirnError, match=message):
        Source(root, **settings)
    with pytest.raises(RirnError, match=r"shutter\.windows must be two counts"):
        Shutter(windows=(5, 3))
    with pytest.raises(
        RirnError, match=r"shutter\.windows must have an odd number between them; got \[4, 4\]"
    ):
        Shutter(windows=(4, 4))
