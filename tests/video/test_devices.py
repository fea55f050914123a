"""What is special about the files of phones, drones and cameras, and about the names and folders that people have."""

import io
import os
import threading
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from rirn.cli import main
from rirn.errors import RirnError
from rirn.video import Encoding, Reader, deblur
from rirn.video.batch import plan
from rirn.video.compare import BAR
from rirn.video.cut import Cut
from tests.video.clips import Identity, Invert, picture, probe, psnr, write_clip
from tests.video.tools import ffmpeg

ONE = 1 << 16
# Display matrices (a, b, c, d) of the eight ways to hold a camera, and what makes the picture upright.
TURNS = {
    (1, 0, 0, 1): lambda x: x,
    (0, 1, -1, 0): lambda x: np.rot90(x, -1),
    (-1, 0, 0, -1): lambda x: np.rot90(x, 2),
    (0, -1, 1, 0): lambda x: np.rot90(x, 1),
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda x: np.swapaxes(x, 0, 1),
    (0, -1, -1, 0): lambda x: np.rot90(np.swapaxes(x, 0, 1), 2),
}


def matrix(a, b, c, d):
    return (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_images_are_upright_however_the_camera_was_held(tmp_path, turn):
    clip = write_clip(tmp_path / "in.mp4", 2, matrix=matrix(*turn))
    deblur(Identity(), clip, tmp_path / "out", progress=False)
    with Image.open(tmp_path / "out" / "00000001.png") as image:
        assert psnr(TURNS[turn](picture(64, 48, 1)), np.asarray(image)) > 30
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    with Reader(clip) as a, Reader(tmp_path / "out.mp4") as b:
        assert a.info.display_matrix == b.info.display_matrix


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("target", ["out.mp4", "out"])
def test_compared_videos_are_side_by_side_however_the_camera_was_held(tmp_path, turn, target):
    context = {"sample_aspect_ratio": Fraction(4, 3)}
    clip = write_clip(tmp_path / "in.mp4", 2, matrix=matrix(*turn), **context)
    deblur(Invert(), clip, tmp_path / target, compare=True, progress=False)
    path = tmp_path / "out" / "%08d.png" if target == "out" else tmp_path / target
    shown = [TURNS[turn](picture(64, 48, i)) for i in range(2)]
    _, frames, _ = probe(path)
    with Reader(tmp_path / target) as reader:
        assert reader.info.display_matrix is None
        if target != "out":
            assert reader.info.sample_aspect_ratio == (Fraction(3, 4) if turn[1] else Fraction(4, 3))
    for wanted, frame in zip(shown, frames, strict=True):
        height, width = wanted.shape[:2]
        assert frame.shape == (height, 2 * width + BAR, 3)
        assert psnr(frame[:, :width], wanted) > 28
        assert psnr(frame[:, width + BAR :], 255 - wanted) > 28


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_frames_on_a_pipe_are_upright_however_the_camera_was_held(tmp_path, monkeypatch, turn):
    """y4m has no flag for it."""
    clip = write_clip(tmp_path / "in.mp4", 2, matrix=matrix(*turn), sample_aspect_ratio=Fraction(4, 3))
    pipe = io.BytesIO()
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=pipe))
    deblur(Identity(), clip, "-", progress=False)
    pipe.seek(0)
    with av.open(pipe) as container:
        (stream,) = container.streams
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.sample_aspect_ratio == (Fraction(3, 4) if turn[1] else Fraction(4, 3))
    for i, frame in enumerate(frames):
        assert psnr(frame, TURNS[turn](picture(64, 48, i))) > 28
    assert len(frames) == 2


def test_the_bar_between_compared_pictures_of_10_bits_is_as_bright(tmp_path):
    clip = write_clip(tmp_path / "in.mkv", 2, codec="ffv1", pix_fmt="yuv420p10le")
    deblur(Invert(), clip, tmp_path / "out.mp4", compare=True, progress=False)
    bar = probe(tmp_path / "out.mp4")[1][1][:, 64 : 64 + BAR]
    assert abs(int(np.median(bar)) - 64) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright_however_the_camera_was_held(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(64, 48, 3)).save(tmp_path / "in.png", exif=exif)
    deblur(Identity(), tmp_path / "in.png", tmp_path / "out.png", progress=False)
    method = [None, 0, 3, 1, 5, 4, 6, 2][orientation - 1]
    with Image.open(tmp_path / "out.png") as image, Image.open(tmp_path / "in.png") as source:
        upright = source.copy() if method is None else source.transpose(Image.Transpose(method))
        assert image.getexif().get(0x0112, 1) == 1
        assert np.array_equal(np.asarray(image), np.asarray(upright))


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("L", "in.png"),
        ("LA", "in.png"),
        ("P", "in.png"),
        ("1", "in.png"),
        ("I;16", "in.png"),
        ("CMYK", "in.jpg"),
        ("L", "in.jpg"),
        ("RGBA", "in.tif"),
        ("F", "in.tif"),
    ],
)
def test_photos_of_every_mode(tmp_path, mode, name):
    rgb = Image.fromarray(picture(64, 48, 3))
    deep = np.asarray(rgb.convert("L")).astype(np.uint16) * 257
    image = Image.fromarray(deep) if mode == "I;16" else rgb.convert(mode)
    image.save(tmp_path / name)
    try:
        deblur(Identity(), tmp_path / name, tmp_path / f"out{name[2:]}", progress=False)
    except RirnError as error:
        assert mode == "F", error
        return
    with Image.open(tmp_path / f"out{name[2:]}") as after:
        expected = rgb.convert("L" if mode in ("L", "LA", "I;16") else "RGB")
        if mode in ("1", "P"):
            expected = image.convert("RGB")
        assert psnr(np.asarray(expected.convert("RGB")), np.asarray(after.convert("RGB"))) > 30
        assert ("A" in after.getbands()) == ("A" in mode)


def captions(path):
    with av.open(str(path)) as container:
        return [
            [bytes(d) for d in frame.side_data if d.type.name == "A53_CC"]
            for frame in container.decode(video=0)
        ]


def captioned(path, first=0, frames=8):
    """A clip with other captions in each picture from the one with number `first` on."""
    write_clip(
        path.with_name("plain.h264"), frames, options={"bf": "0", "preset": "ultrafast", "threads": "1"}
    )
    data = path.with_name("plain.h264").read_bytes().replace(b"\0\0\0\1", b"\0\0\1")
    units, number = [], 0
    for unit in data.split(b"\0\0\1")[1:]:
        if unit[0] & 31 in (1, 5):
            if number >= first:
                said = (
                    bytes([0xB5, 0, 0x31]) + b"GA94" + bytes([3, 0xC1, 0xFF, 0xFC, 0x94, 32 + number, 0xFF])
                )
                units.append(bytes([6, 4, len(said)]) + said + b"\x80")
            number += 1
        units.append(unit)
    path.with_name("said.h264").write_bytes(b"".join(b"\0\0\0\1" + unit for unit in units))
    ffmpeg("-r", "25", "-i", path.with_name("said.h264"), "-c", "copy", path)
    return path


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("first", [0, 3])
def test_captions_are_kept_with_their_pictures(tmp_path, caplog, monkeypatch, codec, first):
    monkeypatch.setattr("rirn.video.pipeline.SEGMENT", 5)
    clip = captioned(tmp_path / "in.mp4", first)
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False, encoding=Encoding(codec))
    assert captions(tmp_path / "out.mp4") == captions(clip) and any(captions(clip))
    assert not caplog.text


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("target", ["out", "out.mov"])
def test_captions_that_are_not_kept_are_named(tmp_path, caplog, target, first):
    clip = captioned(tmp_path / "in.mp4", first)
    deblur(Identity(), clip, tmp_path / target, progress=False, encoding=Encoding("prores_ks"))
    assert caplog.text.count(f"{target} does not hold: closed captions.") == 1


def test_transparency_beside_the_packets_is_named(tmp_path, caplog):
    """VP9 and VP8 of browsers: FFmpeg's own decoders do not read it."""
    source = "color=red:s=64x48:r=10:d=0.3,format=rgba,colorchannelmixer=aa=0.3"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", tmp_path / "in.webm")
    deblur(Identity(), tmp_path / "in.webm", tmp_path / "out.mp4", progress=False)
    assert caplog.text.count("does not hold: transparency.") == 1


@pytest.mark.parametrize(
    ("suffix", "tags"),
    [
        (".mp4", {"creation_time": "2022-11-09T17:36:38.000000Z", "com.android.version": "14"}),
        (".mp4", {"location": "+52.0000+004.0000/", "com.android.capture.fps": "240.0"}),
        (".mov", {"creation_time": "2022-11-09T17:36:38.000000Z", "com.apple.quicktime.make": "Apple"}),
        (".mov", {"location": "+52.0000+004.0000/", "make": "DJI", "model": "FC3582"}),
        (".mp4", {"location": "+52.0000+004.0000/", "title": "walk"}),
        (
            ".mp4",
            {"title": "walk", "comment": "c", "artist": "a", "album": "b", "genre": "g", "date": "2022"},
        ),
    ],
)
@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv"])
def test_place_date_and_maker_are_kept(tmp_path, suffix, tags, target):
    flags = {"movflags": "use_metadata_tags"} if any(k.startswith("com.") for k in tags) else {}
    clip = write_clip(tmp_path / f"in{suffix}", 2, metadata=tags, container_options=flags)
    with av.open(str(clip)) as container:
        before = {k.lower(): v for k, v in container.metadata.items()}
    deblur(Identity(), clip, tmp_path / target, progress=False)
    with av.open(str(tmp_path / target)) as container:
        after = {k.lower(): v for k, v in container.metadata.items()}
    wanted = {k: v for k, v in before.items() if k in tags}
    assert len(wanted) >= len(tags) - 1
    assert {k: after.get(k) for k in wanted} == wanted


@pytest.mark.parametrize(
    ("target", "lost"),
    [
        ("out.mp4", ["en-US of video stream 0, h264", "zh-Hans of audio stream 1, aac"]),
        ("out.mkv", []),
    ],
)
def test_a_language_that_has_no_code_is_named(tmp_path, caplog, target, lost):
    write_clip(tmp_path / "in.mp4", 2, audio=("aac", "aac"))
    languages = ["-metadata:s:v", "language=en-US", "-metadata:s:a:0", "language=zh-Hans"]
    ffmpeg("-i", tmp_path / "in.mp4", "-map", "0", "-c", "copy", *languages, tmp_path / "in.mkv")
    deblur(Identity(), tmp_path / "in.mkv", tmp_path / target, progress=False)
    words = f"{target} does not hold: " + "; ".join(f"language {name}" for name in lost) + "."
    assert (words in caplog.text) == bool(lost) and ("language" in caplog.text) == bool(lost)
    with av.open(str(tmp_path / target)) as container:
        kept = [stream.metadata.get("language") for stream in container.streams.audio]
    assert kept[1] == "fra" and (bool(lost) or kept[0] == "zh-Hans")


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.mp4",
        "50%d.mp4",
        "-x.mp4",
        'it\'s "so".mp4',
        "a:b.mp4",
        "ä ö.mp4",
        "a?b*[c].mp4",
        "a=b,c;d.mp4",
        "..a..mp4",
    ],
)
def test_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.rename(write_clip(tmp_path / "in.mp4", 2, audio=("aac",)), name)
    (job,) = plan([f"./{name}"], "out-" + name)
    deblur(Identity(), job.source, job.target, progress=False)
    assert len(probe(f"file:{job.target}")[0]) == 2 and sorted(os.listdir()) == sorted([name, "out-" + name])


def test_clips_of_one_name_are_refused_before_the_work(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write_clip(tmp_path / folder / "GOPR0001.MP4", 2)
    with pytest.raises(RirnError, match="would both become"):
        plan([str(tmp_path / f / "GOPR0001.MP4") for f in "ab"], str(tmp_path / "out"))


def test_one_hdr_clip_of_several_fails_alone(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "sdr.mp4", 2)
    colour = {"color_trc": 16, "colorspace": 9, "color_primaries": 9, "color_range": 1}
    write_clip(folder / "hdr.mp4", 2, pix_fmt="yuv420p10le", **colour)
    assert main(["deblur", str(folder), str(tmp_path / "out"), "--model", "rirn-tiny"]) == 1
    said = capsys.readouterr().err
    assert "PQ transfer" in said and "ffmpeg -i" in said and os.listdir(tmp_path / "out") == ["sdr.mp4"]


def test_memory_cards_hold_more_than_clips(tmp_path):
    """AppleDouble files, thumbnails and folders of programs are no clips."""
    for name in ("DCIM/GX010001.MP4", "DCIM/._GX010001.MP4", "DCIM/GX010001.THM", ".Trash/old.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"x")
    jobs = plan([str(tmp_path)], "out", recursive=True)
    assert [job.target for job in jobs] == ["out/DCIM/GX010001.MP4"]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"no video"])
def test_a_pipe_without_a_video_is_one_sentence(tmp_path, content):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    with pytest.raises(RirnError, match="not a video that can be read"):
        deblur(Identity(), tmp_path / "pipe", tmp_path / "out.mp4", progress=False)
    writer.join()
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("source", ["in.avi", "in.ts", "in.h264", "in.flv", "in.nut"])
def test_parts_are_exact_in_any_container(tmp_path, source):
    options = {"bf": "2", "g": "10", "preset": "ultrafast"}
    whole = write_clip(tmp_path / "whole.mp4", 30, audio=("aac",), options=options)
    streams = [] if source != "in.h264" else ["-an"]
    ffmpeg("-i", whole, "-c", "copy", *streams, tmp_path / source)
    with Reader(tmp_path / source) as reader:
        times = [f.pts * f.time_base for f in reader]
    part = Cut(times[11], Fraction(9, 25), 8)
    deblur(Identity(), tmp_path / source, tmp_path / "out.mp4", progress=False, cut=part)
    cut, frames, _ = probe(tmp_path / "out.mp4")
    wanted = [i for i, t in enumerate(times) if part.start <= t < part.end][:8]
    assert len(cut) == 8
    for i, frame in zip(wanted, frames, strict=True):
        assert psnr(frame, picture(64, 48, i)) > 30


def test_stereoscopic_video_stays_so_or_is_named(tmp_path, caplog):
    clip = write_clip(tmp_path / "plain.mp4", 2)
    ffmpeg("-i", clip, "-c", "copy", "-metadata:s:v", "stereo_mode=left_right", tmp_path / "in.mkv")
    for target in ("out.mkv", "out.mp4"):
        caplog.clear()
        deblur(Identity(), tmp_path / "in.mkv", tmp_path / target, progress=False)
        with Reader(tmp_path / target) as reader:
            kept = any("stereoscopic" in loss.what for loss in reader.not_kept)
        assert kept != ("stereoscopic" in caplog.text), target
