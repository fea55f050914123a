"""The layouts of the public data sets: what is found in them, under which name and split."""

import pytest

from rirn import RirnError
from rirn.data import find_sequences
from rirn.data.layouts import find_places
from rirn.data.splits import OFFICIAL
from tests.data.layouts import bsd, dvd, gopro, reds, write_frames


def facts(root, **options):
    return [(s.name, s.layout, s.split, len(s)) for s in find_sequences(root, **options)]


def test_gopro(tmp_path):
    gopro(tmp_path, ["train/GOPR0372_07_00", "test/GOPR0384_11_00"])
    assert facts(tmp_path) == [
        ("test/GOPR0384_11_00", "GOPRO", "test", 2),
        ("train/GOPR0372_07_00", "GOPRO", "train", 2),
    ]
    (sequence,) = find_sequences(tmp_path / "test")
    assert sequence.split == "test" and {p.parent.name for p in sequence.blurry} == {"blur_gamma"}
    assert [p.name for p in sequence.sharp] == ["000047.png", "000048.png"]
    (sequence,) = find_sequences(tmp_path, split="train", blur="blur")
    assert {p.parent.name for p in sequence.blurry} == {"blur"} and sequence.name == "train/GOPR0372_07_00"


def test_gopro_split_goes_by_the_name(tmp_path):
    gopro(tmp_path, ["GOPR0384_11_00", "GOPR0384_11_01", "GOPR9999_11_00"])
    assert [s.split for s in find_sequences(tmp_path)] == ["test", "train", None]
    assert [s.name for s in find_sequences(tmp_path, split="test")] == ["GOPR0384_11_00"]


def test_a_folder_far_above_is_no_split(tmp_path):
    write_frames(tmp_path / "test/my/data/a/blur", ["1.png"])
    write_frames(tmp_path / "test/my/data/a/sharp", ["1.png"])
    assert facts(tmp_path / "test/my/data") == [("a", "plain", None, 1)]


def test_reds(tmp_path):
    reds(tmp_path, "train", ["000", "239", "240"], frames=2)
    reds(tmp_path, "val", ["000"], frames=2)
    assert facts(tmp_path) == [
        ("train/000", "REDS", "train", 2),
        ("train/239", "REDS", "train", 2),
        ("train/240", "REDS", "val", 2),
        ("val/000", "REDS", "val", 2),
    ]
    assert [p.official_name for p in find_places(tmp_path)] == ["000", "239", "000", "000"]
    # The test set has no public truth; papers test on the validation set.
    assert facts(tmp_path, split="test") == facts(tmp_path, split="val") == facts(tmp_path)[2:]
    assert facts(tmp_path / "val") == [("000", "REDS", "val", 2)]


@pytest.mark.parametrize("folders", [("quantitative_datasets", "quantitative_datasets"), ("train", "test")])
def test_dvd(tmp_path, folders):
    train, test = folders
    dvd(tmp_path, {f"{train}/C0036": (16, 8), f"{train}/IMG_0001": (8, 6), f"{test}/IMG_0003": (8, 6)})
    write_frames(tmp_path / "qualitative_datasets" / "alley" / "input", ["00000.jpg"])
    found = {s.name.rsplit("/")[-1]: s for s in find_sequences(tmp_path)}
    assert {name: (s.layout, s.split) for name, s in found.items()} == {
        "C0036": ("DVD", "train"),
        "IMG_0001": ("DVD", "train"),
        "IMG_0003": ("DVD", "test"),
    }
    assert found["C0036"].blurry[0].suffix == ".jpg"


def test_bsd(tmp_path):
    bsd(tmp_path, ["BSD_1ms8ms/test/000", "BSD_1ms8ms/valid/001", "BSD_3ms24ms/train/002"])
    assert facts(tmp_path) == [
        ("BSD_1ms8ms/test/000", "BSD 1ms8ms", "test", 2),
        ("BSD_1ms8ms/valid/001", "BSD 1ms8ms", "valid", 2),
        ("BSD_3ms24ms/train/002", "BSD 3ms24ms", "train", 2),
    ]
    assert [s.name for s in find_sequences(tmp_path, split="val")] == ["BSD_1ms8ms/valid/001"]
    assert facts(tmp_path / "BSD_1ms8ms" / "test") == [("000", "BSD 1ms8ms", "test", 2)]


def test_a_split_that_is_not_there(tmp_path):
    gopro(tmp_path, ["train/GOPR0372_07_00"])
    with pytest.raises(RirnError, match="no sequence of the split 'test'; those in it belong to train"):
        find_sequences(tmp_path, split="test")
    with pytest.raises(RirnError, match="no folder in it holds blurred/ beside sharp/"):
        find_sequences(tmp_path, blur="blurred")


def test_halves_are_left_out_and_links_followed(tmp_path):
    gopro(tmp_path / "real", ["GOPR0372_07_00"])
    gopro(tmp_path / "real", ["GOPR0372_07_01"], halves=("blur_gamma",))
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "train").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)  # a circle
    assert [s.name for s in find_sequences(tmp_path / "linked")][:1] == ["train/GOPR0372_07_00"]
    assert len(find_sequences(tmp_path / "real")) == 1


def test_sequences_below_a_folder_that_is_named_like_a_half(tmp_path):
    for half in ("blur", "sharp"):
        write_frames(tmp_path / "input" / "a" / half, ["1.png"])
    assert facts(tmp_path) == [("input/a", "plain", None, 1)] and len(find_places(tmp_path)) == 1


def test_official_lists_add_up():
    totals = {
        (layout, split): (o.sequences, o.frames)
        for layout in OFFICIAL
        for split, o in OFFICIAL[layout].items()
    }
    assert totals["GOPRO", "train"] == (22, 2103) and totals["GOPRO", "test"] == (11, 1111)
    assert totals["REDS", "train"] == (240, 24000) and totals["REDS", "val"] == (30, 3000)
    assert totals["DVD", "train"] == (61, 5708) and totals["DVD", "test"] == (10, 1000)
    assert not set(OFFICIAL["GOPRO"]["train"].lengths) & set(OFFICIAL["GOPRO"]["test"].lengths)
    assert (
        OFFICIAL["BSD 1ms8ms"]["test"].length("000") == 150
        and OFFICIAL["DVD"]["train"].length("C0036") is None
    )


@pytest.mark.parametrize("halves", [("lq", "gt"), ("input", "target"), ("blur", "GT")])
def test_folders_by_the_names_of_other_toolboxes(tmp_path, halves):
    for half in halves:
        write_frames(tmp_path / "ride" / half, ["0.png", "1.png"])
    (found,) = find_sequences(tmp_path)
    assert (found.name, len(found)) == ("ride", 2)
    assert [found.blurry[0].parent.name, found.sharp[0].parent.name] == list(halves)


def test_sequences_within_two_folders(tmp_path):
    for half in ("lq", "gt"):
        write_frames(tmp_path / "train" / half / "a", ["0.png", "1.png"])
        write_frames(tmp_path / "train" / half / "b", ["7.png"])
    write_frames(tmp_path / "train" / "gt" / "c", ["0.png"])
    assert facts(tmp_path) == [("train/a", "plain", "train", 2), ("train/b", "plain", "train", 1)]
    assert [place.name for place in find_places(tmp_path)] == ["train/a", "train/b", "train/c"]
    assert [sequence.name for sequence in find_sequences(tmp_path / "train")] == ["a", "b"]
    for folder in (
        "x/lq",
        "x/gt",
        "x/gt/more",
        "x/lq/more",
    ):  # of frames that lie beside folders, the frames are meant
        write_frames(tmp_path / folder, ["0.png"])
    assert facts(tmp_path / "x") == [("x", "plain", None, 1)]
