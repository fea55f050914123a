"""Reading: every frame with its own time stamp and colours, and one sentence for what cannot be read."""

import os
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from rirn.errors import RirnError
from rirn.video import BrokenStream, Reader
from rirn.video.batch import plan
from rirn.video.containers import missing_bytes
from tests.video.clips import digest, picture, psnr, write_clip

VARIABLE = [0, 3000, 9000, 9100, 20000, 20001, 40000, 50000, 60000, 90000]


def test_frames_carry_the_times_of_the_file(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 10, pts=VARIABLE)
    before = digest(clip)
    with Reader(clip) as reader:
        frames = list(reader)
        assert (reader.info.width, reader.info.height, reader.info.frames) == (64, 48, 10)
        assert reader.info.time_base == Fraction(1, 90000)
    assert [f.pts for f in frames] == VARIABLE
    assert all(f.time_base == Fraction(1, 90000) and f.name is None for f in frames)
    assert all(f.rgb.dtype == np.uint8 and f.rgb.shape == (48, 64, 3) for f in frames)
    assert digest(clip) == before


def test_frames_own_their_memory(tmp_path):
    with Reader(write_clip(tmp_path / "clip.mkv", 5)) as reader:
        frames = list(reader)
    assert len({f.rgb.ctypes.data for f in frames}) == 5
    assert all(f.rgb.base is None and f.rgb.flags.c_contiguous for f in frames)


def test_a_raw_stream_without_times_is_counted(tmp_path):
    clip = tmp_path / "clip.h264"
    with av.open(str(clip), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height = 64, 48
        for i in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(64, 48, i), "rgb24")))
        container.mux(stream.encode())
    with Reader(clip) as reader:
        frames = list(reader)
    assert len(frames) == 6
    assert all(b.pts > a.pts for a, b in pairwise(frames))


@pytest.mark.parametrize("matrix", [1, 5, 6, 9], ids=["bt709", "bt470bg", "smpte170m", "bt2020"])
@pytest.mark.parametrize("levels", [1, 2], ids=["limited", "full"])
def test_matrix_and_range_are_honoured(tmp_path, matrix, levels):
    # A flat colour shows an error of the matrix or of the range undiluted: it would be 10 levels or more.
    colour = np.full((48, 64, 3), (200, 90, 30), np.uint8)
    clip = tmp_path / "clip.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, levels
        container.mux(stream.encode(_yuv(colour, matrix, levels)))
        container.mux(stream.encode())
    with Reader(clip) as reader:
        assert (reader.info.colour.matrix, reader.info.colour.range) == (matrix, levels)
        (frame,) = reader
    assert np.abs(frame.rgb.astype(int) - colour).max() <= 2


def _yuv(rgb, matrix, levels):
    """By the definition of the standards, not by the library under test."""
    kr, kb = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(matrix, (0.299, 0.114))
    r, g, b = (rgb[..., i] / 255 for i in range(3))
    luma = kr * r + (1 - kr - kb) * g + kb * b
    blue, red = (b - luma) / (2 - 2 * kb), (r - luma) / (2 - 2 * kr)
    if levels == 2:
        planes = [255 * luma, 255 * blue + 128, 255 * red + 128]
    else:
        planes = [16 + 219 * luma, 128 + 224 * blue, 128 + 224 * red]
    frame = av.VideoFrame.from_ndarray(np.stack(planes).round().astype(np.uint8), "yuv444p")
    frame.colorspace, frame.color_range, frame.pts = matrix, levels, 0
    return frame


@pytest.mark.parametrize(("height", "matrix"), [(48, 6), (720, 1)], ids=["small", "hd"])
def test_untagged_video_is_read_as_players_guess(tmp_path, height, matrix):
    colour = np.full((height, 64, 3), (200, 90, 30), np.uint8)
    clip = tmp_path / "clip.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv444p"
        frame = _yuv(colour, matrix, 1)
        frame.colorspace, frame.color_range = 2, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with Reader(clip) as reader:
        assert reader.info.colour.matrix == 2
        (frame,) = reader
    assert np.abs(frame.rgb.astype(int) - colour).max() <= 2


def test_jpeg_video_is_full_range(tmp_path):
    clip = write_clip(
        tmp_path / "clip.avi",
        2,
        codec="mjpeg",
        pix_fmt="yuvj420p",
        qmin=1,
        color_range=2,
        time_base=Fraction(1, 25),
        pts=[0, 1],
    )
    with Reader(clip) as reader:
        assert reader.info.colour.range == 2
        assert psnr(next(iter(reader)).rgb, picture(64, 48, 0)) > 33


def test_rgb_video_needs_no_matrix(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 2, 32, 32, codec="ffv1", pix_fmt="bgr0")
    with Reader(clip) as reader:
        assert reader.info.colour.matrix == 1
        for i, frame in enumerate(reader):
            assert np.array_equal(frame.rgb, picture(32, 32, i))


def test_ten_bits_stay_more_than_eight(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 2, codec="ffv1", pix_fmt="yuv444p10le", colorspace=1)
    with Reader(clip) as reader:
        assert reader.info.bits == 10
        frame = next(iter(reader))
    assert frame.rgb.dtype == np.uint16 and psnr(frame.rgb / 257, picture(64, 48, 0)) > 45


def test_orientation_is_told_not_applied(tmp_path):
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    with Reader(write_clip(tmp_path / "clip.mp4", 2, matrix=quarter)) as reader:
        assert (reader.info.width, reader.info.height) == (64, 48)
        assert reader.info.display_matrix == quarter and abs(reader.info.rotation) == 90


def test_frames_can_be_skipped(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 10, pts=VARIABLE)
    with Reader(clip) as reader:
        whole = list(reader)
    with Reader(clip) as reader:
        rest = list(reader.frames(skip=4))
    assert [f.pts for f in rest] == VARIABLE[4:]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(whole[4:], rest, strict=True))


def test_cover_art_is_no_video(tmp_path):
    sound = tmp_path / "song.mka"
    with av.open(str(sound), "w", format="matroska") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(RirnError, match="holds no video stream"):
        Reader(sound)


def test_folder_in_the_order_of_the_numbers(tmp_path):
    for i in (10, 9, 2, 100):
        Image.fromarray(picture(20, 10, i)).save(tmp_path / f"shot{i}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    # Given by a program in decimals, too, which no container can count in.
    with Reader(tmp_path, rate=Fraction("29.97002997002997")) as reader:
        frames = list(reader)
        assert reader.info.frames == 4 and reader.info.rate == Fraction(30000, 1001)
    assert [f.name for f in frames] == ["shot2", "shot9", "shot10", "shot100"]
    assert [f.pts for f in frames] == [0, 1, 2, 3]
    assert all(f.time_base == Fraction(1001, 30000) for f in frames)
    for frame, i in zip(frames, (2, 9, 10, 100), strict=True):
        assert np.array_equal(frame.rgb, picture(20, 10, i))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_images_of_every_kind_become_rgb(tmp_path, mode):
    if mode == "I;16":
        Image.fromarray(np.full((6, 8), 204 * 257, np.uint16)).save(tmp_path / "a.png")
    else:
        Image.new("RGB", (8, 6), (204, 204, 204)).convert(mode).save(tmp_path / "a.tif")
    with Reader(tmp_path) as reader:
        (frame,) = reader
    assert frame.rgb.shape == (6, 8, 3) and np.abs(frame.rgb.astype(int) - 204).max() <= 1


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(20, 10, 0)).save(tmp_path / "a.png", exif=exif)
    with Reader(tmp_path) as reader:
        assert (reader.info.width, reader.info.height) == (10, 20)
        (frame,) = reader
    assert np.array_equal(frame.rgb, np.rot90(picture(20, 10, 0), -1))


def _make(tmp_path, kind):
    path = tmp_path / "in.mp4"
    if kind == "text":
        path.write_text("This is no video.\n" * 100)
    elif kind == "empty file":
        path.touch()
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "cut before the index":
        data = write_clip(path, 10).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "ansi art":
        path = tmp_path / "in.txt"
        path.write_text("hello there\n" * 500)
    elif kind == "empty folder":
        path = tmp_path / "in"
        path.mkdir()
    elif kind == "sizes":
        path = tmp_path / "in"
        path.mkdir()
        for i, size in enumerate([(8, 6), (8, 6), (6, 8)]):
            Image.new("RGB", size).save(path / f"{i}.png")
    elif kind == "not an image":
        path = tmp_path / "in"
        path.mkdir()
        Image.new("RGB", (8, 6)).save(path / "0.png")
        (path / "1.png").write_text("no image")
    elif kind == "twins":
        path = tmp_path / "in"
        path.mkdir()
        for suffix in ("png", "jpg"):
            Image.new("RGB", (8, 6)).save(path / f"0.{suffix}")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist"),
        ("text", "in.mp4 is"),
        ("empty file", "is empty"),
        ("noise", "not a video"),
        ("cut before the index", "cut short"),
        ("ansi art", "text file"),
        ("empty folder", "holds no images"),
        ("sizes", "0.png is 8x6, 2.png is 6x8"),
        ("not an image", "1.png is not an image"),
        ("twins", "both 0.jpg and 0.png"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, kind, words):
    with pytest.raises(RirnError, match=words) as caught:
        Reader(_make(tmp_path, kind))
    assert not isinstance(caught.value, BrokenStream)
    message = str(caught.value).replace(str(tmp_path), "")
    assert "\n" not in message and not message.endswith(".")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_may_not_be_read_is_said_in_one_sentence(tmp_path, monkeypatch, kind):
    path = tmp_path / "in"
    path.touch() if kind == "file" else path.mkdir()
    path.chmod(0)
    if not os.geteuid():  # root may read everything
        monkeypatch.setattr(os, "access", lambda *_: False)
    (job,) = plan([str(path)], "out.mp4")
    with pytest.raises(RirnError, match=r"in cannot be read; check its permissions$"):
        Reader(job.source)
    path.chmod(0o700)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi"])
def test_a_truncated_stream_gives_its_frames_and_then_the_error(tmp_path, suffix):
    options = {"movflags": "+faststart"} if suffix == "mp4" else None
    # Key frames and no B-frames: what is there can be decoded to the last packet.
    clip = write_clip(
        tmp_path / f"clip.{suffix}",
        40,
        codec="mpeg4" if suffix == "avi" else "libx264",
        options={} if suffix == "avi" else {"g": "5", "bf": "0"},
        pts=list(range(40)),
        time_base=Fraction(1, 25),
        container_options=options,
    )
    data = clip.read_bytes()
    assert missing_bytes(str(clip)) == 0
    clip.write_bytes(data[: int(len(data) * 0.7)])
    assert missing_bytes(str(clip)) == len(data) - int(len(data) * 0.7)
    frames = []
    with Reader(clip) as reader, pytest.raises(BrokenStream, match="damaged") as caught:
        for frame in reader:
            frames.append(frame)
    assert 5 < len(frames) < 40
    assert caught.value.frames == len(frames)
    assert [f.pts for f in frames] == [frames[1].pts * i for i in range(len(frames))]


def test_damaged_packets_are_counted_and_the_rest_is_read(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 40, options={"g": "5", "bf": "0"})
    with av.open(str(clip)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(clip.read_bytes())
    at, size = packets[17]
    start = data.index(bytes(_packet(clip, 17))[8:], at)
    data[start : start + size - 8] = np.random.default_rng(0).bytes(size - 8)
    clip.write_bytes(data)
    frames = []
    with Reader(clip) as reader, pytest.raises(BrokenStream, match="packets or frames with errors") as caught:
        for frame in reader:
            frames.append(frame)
    assert 30 <= len(frames) <= 40 and caught.value.frames == len(frames)
    assert psnr(frames[-1].rgb, picture(64, 48, 39)) > 30


def _packet(clip, index):
    with av.open(str(clip)) as container:
        return [bytes(p) for p in container.demux(video=0) if p.size][index]


def test_an_image_that_breaks_off_gives_the_ones_before(tmp_path):
    for i in range(4):
        Image.fromarray(picture(64, 48, i)).save(tmp_path / f"{i}.png")
    data = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(data[: len(data) // 2])
    frames = []
    with Reader(tmp_path) as reader, pytest.raises(BrokenStream, match=r"2\.png is not an image") as caught:
        for frame in reader:
            frames.append(frame)
    assert [f.name for f in frames] == ["0", "1"] and caught.value.frames == 2


def test_live_recordings_without_a_size_are_whole(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 5, container_options={"live": "1"})
    assert missing_bytes(str(clip)) == 0
    with Reader(clip) as reader:
        assert len(list(reader)) == 5
