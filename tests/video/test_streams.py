"""What ffprobe says of the input, it says of the output: streams, times, colours, chapters, tags."""

from fractions import Fraction

import av
import numpy as np
import pytest

from rirn.errors import RirnError
from rirn.video import Encoding, Reader, deblur
from tests.video.clips import Delayed, Identity, picture, probe, write_clip
from tests.video.tools import ffmpeg, ffprobe, packets

QUARTER = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
SUBTITLES = "1\n00:00:00,000 --> 00:00:00,200\nBonjour\n\n2\n00:00:00,250 --> 00:00:00,400\nAdieu\n"
CHAPTERS = (
    ";FFMETADATA1\ntitle=Ride\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=Uphill\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=200\nEND=480\ntitle=Downhill\n"
)


@pytest.fixture
def rich(tmp_path):
    """A turned video with sample aspect, two tones, subtitles, chapters and a title; uneven times."""

    def make(suffix):
        plain = write_clip(
            tmp_path / "plain.mp4",
            12,
            pts=[0, 3600, 7200, 9000, 9500, 20000, 21000, 25000, 30000, 34000, 38000, 40000],
            audio=("aac", "aac"),
            sample_aspect_ratio=Fraction(4, 3),
            matrix=QUARTER,
            colorspace=1,
            color_range=1,
            color_primaries=1,
            color_trc=1,
        )
        (tmp_path / "in.srt").write_text(SUBTITLES)
        (tmp_path / "chapters.txt").write_text(CHAPTERS)
        path = tmp_path / f"in{suffix}"
        codec = "srt" if suffix == ".mkv" else "mov_text"
        inputs = ["-i", plain, "-i", tmp_path / "in.srt", "-i", tmp_path / "chapters.txt"]
        maps = ["-map", "0", "-map", "1", "-map_metadata", "2", "-map_chapters", "2"]
        ffmpeg(*inputs, *maps, "-c", "copy", "-c:s", codec, "-metadata:s:s:0", "language=fra", path)
        return path

    return make


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("model", [Identity, Delayed])
def test_every_stream_time_and_tag_comes_along(tmp_path, rich, suffix, model, monkeypatch):
    monkeypatch.setattr("rirn.video.pipeline.SEGMENT", 5)  # several segments with B-frames and uneven times
    source, target = rich(suffix), tmp_path / f"out{suffix}"
    summary = deblur(model(), source, target, progress=False)
    before, after = ffprobe(source), ffprobe(target)
    assert summary.frames == 12
    kinds = [[s["codec_type"] for s in about["streams"]] for about in (before, after)]
    assert kinds[0] == kinds[1] and kinds[0][:4] == ["video", "audio", "audio", "subtitle"]
    fields = ("codec_name", "width", "height", "sample_aspect_ratio", "pix_fmt", "color_range", "color_space")
    fields += ("color_transfer", "color_primaries", "nb_read_frames", "disposition", "time_base")
    for a, b in zip(before["streams"], after["streams"], strict=True):
        for name in fields:
            if (a["codec_type"], name) == ("data", "time_base"):
                continue  # how MP4 stores chapters; their times are compared below
            assert a.get(name) == b.get(name), (a["codec_type"], name)
        assert a["tags"].get("language") == b["tags"].get("language")
    # ffmpeg before version 6 copies no rotation into Matroska.
    rotations = [p["streams"][0]["rotation"] for p in (before, after)]
    assert rotations[0] == rotations[1] and abs(rotations[0]) in ((0, 90) if suffix == ".mkv" else (90,))
    assert before["chapters"] == after["chapters"] and len(after["chapters"]) == 2
    assert after["format"]["tags"]["title"] == "Ride"
    for index in (1, 2, 3):
        assert packets(source, index) == packets(target, index)
    assert probe(source)[0] == probe(target)[0]
    assert float(after["format"]["duration"]) == pytest.approx(float(before["format"]["duration"]), abs=0.002)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_sound_stream_without_a_packet_comes_along(tmp_path, suffix):
    source = tmp_path / f"in{suffix}"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height = 64, 48
        container.add_stream("aac", rate=48000)
        for i in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(64, 48, i), "rgb24")))
        container.mux(video.encode())
    deblur(Identity(), source, tmp_path / f"out{suffix}", progress=False)
    times, _, sound = probe(tmp_path / f"out{suffix}")
    assert len(times) == 5 and sound == probe(source)[2] and not any(sound)


def test_attachments_and_cover_art_come_along(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 5)
    (tmp_path / "font.ttf").write_bytes(b"no real font" * 20)
    font = ("-attach", tmp_path / "font.ttf", "-metadata:s:t", "mimetype=application/x-truetype-font")
    ffmpeg("-i", clip, "-c", "copy", *font, tmp_path / "in.mkv")
    deblur(Identity(), tmp_path / "in.mkv", tmp_path / "out.mkv", progress=False)
    streams = ffprobe(tmp_path / "out.mkv")["streams"]
    assert [s["codec_type"] for s in streams] == ["video", "attachment"]
    assert streams[1]["tags"]["filename"] == "font.ttf"
    ffmpeg("-i", clip, "-frames:v", 1, tmp_path / "cover.png")
    cover = ("-map", 0, "-map", 1, "-c", "copy", "-disposition:v:1", "attached_pic")
    ffmpeg("-i", clip, "-i", tmp_path / "cover.png", *cover, tmp_path / "in.mp4")
    deblur(Identity(), tmp_path / "in.mp4", tmp_path / "out.mp4", progress=False)
    streams = ffprobe(tmp_path / "out.mp4")["streams"]
    assert [bool(s["disposition"] & av.stream.Disposition.attached_pic) for s in streams] == [False, True]
    assert packets(tmp_path / "in.mp4", 1)[0][2] == packets(tmp_path / "out.mp4", 1)[0][2]


def test_what_a_format_cannot_hold_is_left_out_with_one_warning(tmp_path, caplog):
    clip = write_clip(tmp_path / "in.mkv", 5, audio=("wavpack", "aac"))
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    _, frames, sound = probe(tmp_path / "out.mp4")
    assert len(frames) == 5 and len(sound) == 1 and sound[0]
    assert caplog.text.count("goes without it") == 1 and "wavpack" in caplog.text


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "flac", "libopus", "pcm_s16le"])
def test_sound_is_copied_bit_by_bit(tmp_path, codec):
    clip = write_clip(
        tmp_path / "in.mkv", 12, audio=(codec,), time_base=Fraction(1, 1000), pts=range(0, 480, 40)
    )
    deblur(Identity(), clip, tmp_path / "out.mkv", progress=False)
    before, after = probe(clip), probe(tmp_path / "out.mkv")
    assert before[0] == after[0] and before[2] == after[2]


@pytest.mark.parametrize(("width", "height"), [(17, 13), (1279, 719)], ids=str)
def test_odd_sizes(tmp_path, width, height, caplog):
    clip = write_clip(tmp_path / "in.mkv", 2, width, height, pix_fmt="yuv444p", codec="ffv1")
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False, encoding=Encoding(preset="ultrafast"))
    (stream,) = ffprobe(tmp_path / "out.mp4")["streams"]
    assert (stream["width"], stream["height"], stream["nb_frames"]) == (width, height, "2")
    assert caplog.text.count("odd side") == 1


def test_a_raw_stream_without_times_is_counted(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 6, options={"bf": "0"})
    ffmpeg("-i", clip, "-c", "copy", "-f", "h264", tmp_path / "in.h264")
    deblur(Identity(), tmp_path / "in.h264", tmp_path / "out.mp4", progress=False)
    assert probe(tmp_path / "out.mp4")[0] == [Fraction(i, 25) for i in range(6)]


@pytest.mark.parametrize("codec", [None, "libx264", "prores_ks"])
def test_ten_bits_stay_ten_bits(tmp_path, codec):
    clip = write_clip(
        tmp_path / "in.mkv", 3, codec="ffv1", pix_fmt="yuv420p10le", colorspace=1, color_range=1
    )
    encoding = Encoding(codec=codec, crf=None if codec == "prores_ks" else 1)
    target = tmp_path / ("out.mov" if codec == "prores_ks" else "out.mp4")
    deblur(Identity(), clip, target, progress=False, encoding=encoding)
    (stream,) = ffprobe(target)["streams"]
    assert stream["pix_fmt"] == ("yuv422p10le" if codec == "prores_ks" else "yuv420p10le")
    assert stream["color_space"] == "bt709" and stream["nb_frames"] == "3"
    if codec is None:
        assert (stream["codec_name"], stream["codec_tag_string"]) == ("hevc", "hvc1")
    levels = [_planes(p)[0] for p in (clip, target)]
    assert np.abs(levels[0] - levels[1]).mean() < 1.5  # of 1023
    assert np.unique(levels[1] % 4).size == 4  # not eight bits in disguise


def test_ten_bits_become_eight_in_images_with_a_warning(tmp_path, caplog):
    clip = write_clip(tmp_path / "in.mkv", 2, codec="ffv1", pix_fmt="yuv420p10le")
    deblur(Identity(), clip, tmp_path / "out", progress=False)
    assert caplog.text.count("The input has 10 bits") == 1


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="PyAV without an AV1 encoder")
def test_av1(tmp_path):
    clip = write_clip(tmp_path / "in.mp4", 4)
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False, encoding=Encoding("libsvtav1"))
    (stream,) = ffprobe(tmp_path / "out.mp4")["streams"]
    assert (stream["codec_name"], stream["nb_frames"]) == ("av1", "4")


def _planes(path):
    """Samples of the planes of the first frame, as they are stored."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        return [
            np.frombuffer(bytes(p), kind).reshape(p.height, -1)[:, : p.width].astype(int)
            for p in frame.planes
        ]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("matrix", [1, 6], ids=["bt709", "bt601"])
@pytest.mark.parametrize("levels", [1, 2], ids=["limited", "full"])
def test_colours_come_back_within_one_level(tmp_path, matrix, levels, pix_fmt):
    """Patches of colours inside the RGB cube, lossless in and out: what is left is the way to RGB and back."""
    rng = np.random.default_rng(0)
    patches = rng.integers(16, 240, (6, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    clip = tmp_path / "in.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, levels
        frame = av.VideoFrame.from_ndarray(patches, "rgb24").reformat(
            format=pix_fmt, dst_colorspace={1: 1, 6: 5}[matrix], src_color_range=2, dst_color_range=levels
        )
        frame.colorspace, frame.color_range = matrix, levels
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    encoding = Encoding(codec="libx264", crf=0, options={"qp": "0"})
    deblur(Identity(), clip, tmp_path / "out.mkv", progress=False, encoding=encoding)
    with Reader(tmp_path / "out.mkv") as reader:
        assert (reader.info.colour.matrix, reader.info.colour.range) == (matrix, levels)
    a, b = (_inner(_planes(p)) for p in (clip, tmp_path / "out.mkv"))
    assert max(np.abs(x - y).max() for x, y in zip(a, b, strict=True)) <= (1 if pix_fmt == "yuv420p" else 4)


def _inner(planes):
    """The middle of each 16x16 patch of the planes of a 128x96 frame, away from the blending at its edges."""
    luma, blue, red = planes
    patches = [luma.reshape(6, 16, 8, 16)[:, 4:12, :, 4:12]]
    return patches + [c.reshape(6, 8, 8, 8)[:, 3:5, :, 3:5] for c in (blue, red)]


@pytest.mark.parametrize(("transfer", "word"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_or_passed_with_its_tags(tmp_path, transfer, word):
    clip = write_clip(
        tmp_path / "in.mkv",
        2,
        codec="ffv1",
        pix_fmt="yuv420p10le",
        colorspace=9,
        color_range=1,
        color_primaries=9,
        color_trc=transfer,
    )
    with pytest.raises(RirnError, match=f"HDR \\({word} transfer\\).*--hdr pass"):
        deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    assert not (tmp_path / "out.mp4").exists()
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False, hdr="pass")
    before, after = (ffprobe(p)["streams"][0] for p in (clip, tmp_path / "out.mp4"))
    for name in ("color_space", "color_transfer", "color_primaries", "pix_fmt"):
        assert before[name] == after[name]
