"""Folders of blurry and sharp frames: layouts that are found, and what is wrong with those that are refused."""

import numpy as np
import pytest

from rirn import RirnError
from rirn.data import find_sequences, list_images, read_image, write_png, write_sequence


def frame(value, size=(6, 8)):
    return np.full((*size, 3), value, np.uint8)


def fill(folder, names, size=(6, 8)):
    folder.mkdir(parents=True)
    for value, name in enumerate(names):
        write_png(folder / name, frame(value, size))


def test_numeric_names_are_sorted_as_numbers(tmp_path):
    fill(tmp_path / "f", ["10.png", "9.png", "000100.png", "cover.png"])
    (tmp_path / "f" / "notes.txt").write_text("no image")
    assert [p.name for p in list_images(tmp_path / "f")] == ["9.png", "10.png", "000100.png", "cover.png"]


@pytest.mark.parametrize(
    ("blurry", "sharp"), [("blur_gamma", "sharp"), ("blur", "sharp"), ("input", "GT"), ("Blur", "Sharp")]
)
def test_layouts_are_found(tmp_path, blurry, sharp):
    for name in ("b", "a"):
        for sub in (blurry, sharp):
            fill(tmp_path / "train" / name / sub, ["000047.png", "000048.png"])
    found = find_sequences(tmp_path)
    assert [s.name for s in found] == ["train/a", "train/b"]
    assert [p.name for p in found[0].blurry] == ["000047.png", "000048.png"]
    assert found[0].sharp[0].parent.name == sharp and len(found[0]) == 2


def test_blur_gamma_wins_over_blur(tmp_path):
    for sub in ("blur", "blur_gamma", "sharp"):
        fill(tmp_path / sub, ["1.png"])
    (sequence,) = find_sequences(tmp_path)
    assert sequence.blurry[0].parent.name == "blur_gamma" and sequence.name == tmp_path.name


def test_pairs_match_by_stem_not_by_extension(tmp_path):
    fill(tmp_path / "blur", ["1.png"])
    fill(tmp_path / "sharp", ["1.bmp"])
    assert len(find_sequences(tmp_path)) == 1


@pytest.mark.parametrize(
    ("blurry", "sharp", "message"),
    [
        (["1.png", "1.bmp"], ["1.png"], r"1\.png is one frame with 1\.bmp|1\.bmp is one frame with 1\.png"),
        (["1.png"], ["01.png"], r"1\.png has no partner in .*2 such frames"),
        (["1.png", "2.png"], ["1.png"], r"2\.png has no partner in .*sharp"),
        ([], [], "hold no images"),
    ],
)
def test_broken_sequences_are_named(tmp_path, blurry, sharp, message):
    fill(tmp_path / "blur", blurry)
    fill(tmp_path / "sharp", sharp)
    with pytest.raises(RirnError, match=message):
        find_sequences(tmp_path)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(RirnError, match="there is no folder"):
        find_sequences(tmp_path / "nowhere")
    with pytest.raises(RirnError, match="has no sequence"):
        find_sequences(tmp_path)


def test_written_sequences_read_back(tmp_path):
    pairs = [(frame(i), frame(100 + i)) for i in range(3)]
    assert write_sequence(tmp_path / "s", iter(pairs)) == 3
    (sequence,) = find_sequences(tmp_path)
    for (blurry, sharp), b, s in zip(pairs, sequence.blurry, sequence.sharp, strict=True):
        assert np.array_equal(read_image(b), blurry) and np.array_equal(read_image(s), sharp)


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n" + b"\0" * 20])
def test_damaged_images_are_one_sentence(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(RirnError, match=r"bad\.png is not an image"):
        read_image(path)
    with pytest.raises(RirnError, match=r"none\.png is not an image .*No such file"):
        read_image(tmp_path / "none.png")


def test_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_png(tmp_path / "x.png", np.zeros((4, 4, 7), np.float32))
    assert list(tmp_path.iterdir()) == []
