"""Fields, transparency, streams, telemetry and file times are kept, or named in one line."""

import os
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from PIL import Image

from rirn.data import list_images, read_image
from rirn.video import Encoding, Reader, deblur
from rirn.video.companions import describe
from rirn.video.cut import Cut
from rirn.video.losses import INTERLACING, of_picture
from tests.video.clips import Identity, Invert, picture, write_clip
from tests.video.tools import ffmpeg


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Type.A53_CC, ["closed captions"]),
        (Type.SPHERICAL, ["marks of a 360-degree video"]),
        (Type.DOVI_METADATA, ["HDR metadata"]),
        (Type.SEI_UNREGISTERED, []),
        (Type.DISPLAYMATRIX, []),
    ],
)
def test_side_data_that_is_lost_is_named(kind, words):
    one = SimpleNamespace(interlaced_frame=False, side_data=[SimpleNamespace(type=kind)])
    assert [loss.what for loss in of_picture(one)] == words
    assert of_picture(SimpleNamespace(interlaced_frame=True, side_data=[])) == [INTERLACING]


def combed(path, frames=12):
    """A ball that moves between the two fields of a frame."""
    y, x = np.mgrid[0:48, 0:64]
    with av.open(str(path), "w") as container:
        options = {"flags": "+ilme+ildct", "crf": "4", "x264-params": "tff=1"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            fields = [np.hypot(x - 8 - 4 * i - dx, y - 24) < 10 for dx in (0, 2)]
            grey = np.where(y % 2, fields[1], fields[0])[..., None] * np.uint8([200, 200, 200])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode())
    return path


def comb(rgb):
    """How much lines differ from the next, over from the next but one."""
    grey = rgb.astype(float).mean(2)
    return np.abs(grey[1:] - grey[:-1]).mean() / np.abs(grey[2:] - grey[:-2]).mean()


def test_interlaced_pictures_are_said_or_filled_in(tmp_path, caplog):
    clip = combed(tmp_path / "in.mp4")
    for name, options in (("combed", {}), ("filled", {"deinterlace": True})):
        caplog.clear()
        deblur(Identity(), clip, tmp_path / name, progress=False, **options)
        assert caplog.text.count("does not hold: interlacing.") == (name == "combed")
    images = {n: [read_image(p) for p in list_images(tmp_path / n)] for n in ("combed", "filled")}
    assert len(images["combed"]) == len(images["filled"]) == 12
    assert comb(images["filled"][5]) < 0.8 < comb(images["combed"][5])
    with Reader(clip) as whole, Reader(clip, deinterlace=True) as filled:
        assert [f.pts for f in whole] == [f.pts for f in filled]


def see_through(path, codec, pix_fmt):
    """A clip whose left half is half transparent."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for i in range(3):
            rgba = np.dstack([picture(64, 48, i), np.full((48, 64), 255, np.uint8)])
            rgba[:, :32, 3] = 100
            frame = av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format=pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("source", "target", "codec"),
    [
        (("in.mov", "prores_ks", "yuva444p10le"), "out.mov", "prores_ks"),
        (("in.mov", "qtrle", "argb"), "out.mov", "qtrle"),
        (("in.mov", "prores_ks", "yuva444p10le"), "out.mkv", "ffv1"),
        (("in.mkv", "ffv1", "yuva420p"), "out", None),
        (("in.mov", "qtrle", "argb"), "out.mp4", None),
        (("in.mov", "qtrle", "argb"), "out.mkv", "libvpx-vp9"),
    ],
)
def test_transparency_is_kept_or_said(tmp_path, caplog, source, target, codec):
    clip = see_through(tmp_path / f"s{source[0]}", *source[1:])
    deblur(Invert(), clip, tmp_path / target, progress=False, encoding=Encoding(codec))
    if target == "out.mp4" or codec == "libvpx-vp9":
        assert caplog.text.count("does not hold: transparency.") == 1 and "--codec prores_ks" in caplog.text
        return
    assert "transparency" not in caplog.text
    if target == "out":
        alpha = np.asarray(Image.open(list_images(tmp_path / target)[1]))[..., 3].astype(float)
    else:
        with Reader(tmp_path / target) as reader:
            alpha = list(reader)[1].alpha.astype(float) / (257 if reader.info.bits > 8 else 1)
    assert abs(alpha[:, :28].mean() - 100) < 2 and abs(alpha[:, 36:].mean() - 255) < 2


CHAPTERS = (
    ";FFMETADATA1\ntitle=all of it\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=100\ntitle=one\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=100\nEND=240\ntitle=two\n"
)


def everything(folder):
    """A video with two kinds of sound and of subtitles, an attachment, chapters and a title."""
    (folder / "t.srt").write_text("1\n00:00:00,000 --> 00:00:00,200\nwords\n")
    (folder / "font.ttf").write_bytes(bytes(range(200)))
    (folder / "chapters").write_text(CHAPTERS)
    clip = write_clip(folder / "clip.mkv", 6, audio=("aac", "flac"))
    ffmpeg(
        *(
            "-i",
            clip,
            "-i",
            folder / "t.srt",
            "-i",
            folder / "chapters",
            "-map",
            "0",
            "-map",
            "1",
            "-map",
            "1",
        ),
        *("-map_metadata", "2", "-c", "copy", "-c:s:1", "ass", "-attach", folder / "font.ttf"),
        *("-metadata:s:t:0", "mimetype=font/ttf", folder / "all.mkv"),
    )
    return folder / "all.mkv"


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4", "out.mov", "out"])
def test_nothing_goes_unmentioned(tmp_path, caplog, target):
    """Every stream of the source is in the target, or in the one line that says what is not."""
    clip = everything(tmp_path)
    deblur(Identity(), clip, tmp_path / target, progress=False)
    lines = [r.message for r in caplog.records if "does not hold: " in r.message]
    with av.open(str(clip)) as container:
        streams = [(s.type, describe(s)) for s in container.streams][1:]
    assert [kind for kind, _ in streams] == ["audio", "audio", "subtitle", "subtitle", "attachment"]
    missing = [kind for kind, words in streams if words in "".join(lines)]
    kept = []
    if target != "out":
        with av.open(str(tmp_path / target)) as container:
            kept = [s.type for s in container.streams if s.type != "data"][1:]  # MOV has a track of chapters
            assert container.metadata["title"] == "all of it"
            assert [c["metadata"]["title"] for c in container.chapters()] == ["one", "two"]
    assert sorted([*kept, *missing]) == sorted(kind for kind, _ in streams)
    assert len(lines) == (target != "out.mkv") and ("chapters" in "".join(lines)) == (target == "out")


def test_telemetry_beside_chapters_is_no_list_of_chapters(tmp_path):
    clip = write_clip(tmp_path / "in.mp4", 6)
    (tmp_path / "chapters").write_text(CHAPTERS)
    with av.open(str(clip)) as pictures, av.open(str(tmp_path / "both.mp4"), "w") as out:
        video, data = out.add_stream_from_template(pictures.streams.video[0]), out.add_data_stream("bin_data")
        for packet in (p for p in pictures.demux(video=0) if p.size):
            packet.stream = video
            out.mux(packet)
        for i in range(2):
            packet = av.Packet(bytes([0, 3]) + b"GPS" + bytes(20))
            packet.pts = packet.dts = 100 * i
            packet.duration, packet.time_base, packet.stream = 100, Fraction(1, 1000), data
            out.mux(packet)
    ffmpeg(
        *("-i", tmp_path / "both.mp4", "-i", tmp_path / "chapters", "-map", "0", "-map_metadata", "1"),
        *("-c", "copy", "-copy_unknown", tmp_path / "all.mp4"),
    )
    deblur(Identity(), tmp_path / "all.mp4", tmp_path / "out.mp4", progress=False)
    with av.open(str(tmp_path / "out.mp4")) as container:
        data = [bytes(p) for p in container.demux(container.streams.data) if p.size]
        assert len(container.chapters()) == 2 and sum(b"GPS" in p for p in data) == 2


@pytest.mark.parametrize("options", [{}, {"keep_times": False}, {"cut": Cut(frames=1)}], ids=str)
def test_file_times_are_kept_of_whole_files(tmp_path, options):
    clip = write_clip(tmp_path / "in.mp4", 2)
    os.utime(clip, ns=(10**18, 10**18))
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False, **options)
    assert (os.stat(tmp_path / "out.mp4").st_mtime_ns == 10**18) == (not options)
