"""Writing: exact times, sizes and colours, sound untouched, nothing half-written under the target's name."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from rirn.errors import RirnError
from rirn.video import Encoding, Frame, Reader, VideoInfo, VideoWriter, check_target
from rirn.video.images import ImageFolderWriter, place_images
from tests.video.clips import MS90, picture, probe, psnr, write_clip


def info(width=64, height=48, **others):
    return VideoInfo(width, height, MS90, Fraction(25), **others)


def write(path, frames, about=None, **options):
    """Write pictures 3600 ticks apart."""
    writer = VideoWriter(path, about or info(frames[0].shape[1], frames[0].shape[0]), Encoding(**options))
    for i, rgb in enumerate(frames):
        writer.write(Frame(rgb, 3600 * i, MS90, 3600))
    writer.finish()
    return path


@pytest.mark.parametrize("suffix", ["mp4", "m4v", "mov", "mkv", "MP4"])
def test_formats(tmp_path, suffix):
    path = write(tmp_path / f"out.{suffix}", [picture(64, 48, i) for i in range(5)])
    times, frames, _ = probe(path)
    assert times == [Fraction(i, 25) for i in range(5)]
    assert len(frames) == 5
    assert os.listdir(tmp_path) == [path.name]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert "matroska" in container.format.name if suffix == "mkv" else "mp4" in container.format.name


@pytest.mark.parametrize(
    ("width", "height"), [(63, 47), (64, 47), (63, 48), (16, 16), (1, 1), (3, 2), (2, 2), (17, 1)], ids=str
)
def test_every_size_is_kept(tmp_path, width, height):
    shades = [np.full((height, width, 3), (200, 80, 40 + 20 * i), np.uint8) for i in range(3)]
    _, frames, _ = probe(write(tmp_path / "out.mp4", shades))
    assert [f.shape for f in frames] == [(height, width, 3)] * 3
    assert min(psnr(a, b) for a, b in zip(shades, frames, strict=True)) > 35


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize(
    "time_base", [Fraction(1, 90000), Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 25)], ids=str
)
def test_uneven_times_are_exact(tmp_path, suffix, time_base):
    stamps = [5, 6, 9, 30, 31, 77, 1000, 1001]
    writer = VideoWriter(tmp_path / f"out.{suffix}", VideoInfo(64, 48, time_base, Fraction(25)))
    for i, pts in enumerate(stamps):
        writer.write(Frame(picture(64, 48, i), pts, time_base))
    writer.finish()
    times, _, _ = probe(tmp_path / f"out.{suffix}")
    assert times == [pts * time_base for pts in stamps]
    if time_base in (Fraction(1, 90000), Fraction(1, 1000)):
        with av.open(str(tmp_path / f"out.{suffix}")) as container:
            assert container.streams.video[0].time_base == time_base


def test_the_last_frame_keeps_its_duration(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", info())
    for i in range(4):
        writer.write(Frame(picture(64, 48, i), 3600 * i, MS90, 3600 if i < 3 else 90000))
    writer.finish()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].duration == 3 * 3600 + 90000


def test_times_that_stand_still_are_moved_on_with_a_warning(tmp_path, caplog):
    writer = VideoWriter(tmp_path / "out.mp4", info())
    for i, pts in enumerate([0, 3600, 3600, 3599, 7200]):
        writer.write(Frame(picture(64, 48, i), pts, MS90))
    writer.finish()
    times, _, _ = probe(tmp_path / "out.mp4")
    assert [t / MS90 for t in times] == [0, 3600, 3601, 3602, 7200]
    assert caplog.text.count("moved") == 1


@pytest.mark.parametrize(
    "matrix", [1, 5, 6, 9, 2], ids=["bt709", "bt470bg", "smpte170m", "bt2020", "untagged"]
)
@pytest.mark.parametrize("levels", [1, 2, 0], ids=["limited", "full", "unsaid"])
def test_colours_and_their_tags_survive(tmp_path, matrix, levels):
    clip = write_clip(
        tmp_path / "in.mkv", 2, codec="ffv1", pix_fmt="yuv444p", colorspace=matrix, color_range=levels
    )
    with Reader(clip) as reader:
        frames = [f.rgb for f in reader]
        assert psnr(frames[0], picture(64, 48, 0)) > 45
        out = write(tmp_path / "out.mp4", [np.full_like(frames[0], 120), frames[1]], reader.info, crf=0)
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        # "Unsaid" means limited, and H.264 says one of them if it says anything.
        assert context.colorspace == matrix and (context.color_range == 2) == (levels == 2)
    with Reader(out) as reader:
        back = [f.rgb for f in reader]
        assert reader.info.colour.matrix == matrix
    assert np.abs(back[0].astype(int) - 120).max() <= 2
    assert psnr(back[1], frames[1]) > 30


def test_lossless_is_lossless_but_for_the_conversion(tmp_path):
    frames = [
        np.full((47, 63, 3), c, np.uint8) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (13, 77, 201))
    ]
    with Reader(write(tmp_path / "out.mp4", frames, crf=0)) as reader:
        back = [f.rgb for f in reader]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(frames, back, strict=True)) <= 2


def test_default_quality_on_a_smooth_clip(tmp_path):
    frames = [picture(320, 240, i, full_range=False) for i in range(8)]
    with Reader(write(tmp_path / "out.mp4", frames)) as reader:
        back = [f.rgb for f in reader]
    assert min(psnr(a, b) for a, b in zip(frames, back, strict=True)) > 40


def test_orientation_aspect_and_tags_come_along(tmp_path):
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    clip = write_clip(
        tmp_path / "in.mp4",
        2,
        matrix=quarter,
        sample_aspect_ratio=Fraction(4, 3),
        metadata={"title": "Öl", "artist": "A", "creation_time": "2020-01-02T03:04:05.000000Z"},
    )
    with Reader(clip) as reader:
        out = write(tmp_path / "out.mp4", [f.rgb for f in reader], reader.info)
        before = reader.info
    with Reader(out) as reader:
        after = reader.info
    assert after.display_matrix == quarter and after.rotation == before.rotation
    assert after.sample_aspect_ratio == Fraction(4, 3)
    for tag in ("title", "artist", "creation_time"):
        assert after.metadata[tag] == before.metadata[tag]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
def test_an_encoding_is_decided_once(codec):
    decided = Encoding(codec, preset="slow", options={"x265-params": "aq-mode=1"}).resolve(info())
    assert decided.resolve(info()) == decided


def test_images_keep_their_names(tmp_path):
    writer = ImageFolderWriter(tmp_path / "out")
    for i, name in enumerate(["b7", "b10"]):
        writer.write(Frame(picture(9, 7, i), i, MS90, name=name))
    assert not (tmp_path / "out").exists()
    writer.finish()
    assert sorted(os.listdir(tmp_path / "out")) == ["b10.png", "b7.png"]
    assert os.listdir(tmp_path) == ["out"]
    with Image.open(tmp_path / "out" / "b10.png") as image:
        assert image.mode == "RGB" and np.array_equal(np.array(image), picture(9, 7, 1))


def test_an_empty_folder_is_filled_and_kept(tmp_path):
    folder, part = tmp_path / "out", tmp_path / "part"
    folder.mkdir()
    before = folder.stat().st_ino
    writer = ImageFolderWriter(part)
    writer.write(Frame(picture(9, 7, 0), 0, MS90, name="a"))
    writer.finish()
    place_images([part], folder)
    assert os.listdir(folder) == ["a.png"] and folder.stat().st_ino == before
    assert os.listdir(part) == ["a.png"]


@pytest.mark.parametrize("writer", [VideoWriter, ImageFolderWriter])
@pytest.mark.parametrize("frames", [0, 1])
def test_abort_leaves_nothing(tmp_path, writer, frames):
    writer = writer(tmp_path / "out.mp4", info()) if writer is VideoWriter else writer(tmp_path / "out")
    for i in range(frames):
        writer.write(Frame(picture(64, 48, i), 3600 * i, MS90, name=str(i)))
    writer.abort()
    assert os.listdir(tmp_path) == []


def test_finish_without_a_frame_leaves_nothing(tmp_path):
    VideoWriter(tmp_path / "out.mp4", info()).finish()
    assert os.listdir(tmp_path) == []


def test_an_existing_file_stays_until_its_successor_is_whole(tmp_path):
    (tmp_path / "real.mp4").write_bytes(b"old")
    (tmp_path / "out.mp4").symlink_to("real.mp4")
    writer = VideoWriter(tmp_path / "out.mp4", info())
    writer.write(Frame(picture(64, 48, 0), 0, MS90))
    assert (tmp_path / "real.mp4").read_bytes() == b"old"
    writer.finish()
    assert (tmp_path / "out.mp4").is_symlink()
    assert len(probe(tmp_path / "real.mp4")[1]) == 1
    assert sorted(os.listdir(tmp_path)) == ["out.mp4", "real.mp4"]


def test_a_full_disk_is_one_sentence(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full to stand in for a full disk")
    writer = VideoWriter(tmp_path / "out.mkv", info())
    writer._part.unlink()
    writer._part.symlink_to("/dev/full")
    with pytest.raises(RirnError, match=r"Cannot write .*out\.mkv: No space left on device$"):
        rng = np.random.default_rng(0)
        for i in range(200):
            writer.write(Frame(rng.integers(0, 256, (48, 64, 3), np.uint8), 3600 * i, MS90))
        writer.finish()
    writer.abort()
    assert os.listdir(tmp_path) == []


def _bad_target(tmp_path, kind):
    if kind == "same":
        return tmp_path / "sub" / ".." / "in.mp4"
    if kind == "symlink":
        (tmp_path / "link.mp4").symlink_to("in.mp4")
        return tmp_path / "link.mp4"
    if kind == "hard link":
        os.link(tmp_path / "in.mp4", tmp_path / "hard.mp4")
        return tmp_path / "hard.mp4"
    if kind == "missing folder":
        return tmp_path / "no" / "such" / "out.mp4"
    if kind == "suffix":
        return tmp_path / "out.xyz"
    if kind == "full folder":
        return tmp_path / "sub"
    if kind == "file as folder":
        (tmp_path / "plain").touch()
        return tmp_path / "plain"
    if kind == "fifo":
        os.mkfifo(tmp_path / "pipe.mp4")
        return tmp_path / "pipe.mp4"
    return None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("same", "is the input itself"),
        ("symlink", "is the input itself"),
        ("hard link", "is the input itself"),
        ("missing folder", "such does not exist"),
        ("suffix", "'.xyz'"),
        ("full folder", "is not empty"),
        ("file as folder", "is no folder"),
        ("fifo", "no regular file"),
    ],
)
def test_bad_targets_are_refused_in_one_sentence(tmp_path, kind, words):
    source = tmp_path / "in.mp4"
    source.write_bytes(b"source")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "thing").touch()
    target = _bad_target(tmp_path, kind)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(RirnError, match=words) as caught:
        check_target(source, target)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")
    assert sorted(os.listdir(tmp_path)) == before and source.read_bytes() == b"source"


def test_good_targets_pass(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.mkv").touch()
    for name in ("new.mp4", "old.mkv", "empty", "new", "folder.v2/"):
        check_target(tmp_path / "in.mp4", f"{tmp_path}/{name}")
