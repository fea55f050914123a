"""Nothing that was computed is lost: whatever the rest of a file is like, its restored pictures become a video."""

import io
import os
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest

from rirn.cli import main
from rirn.errors import RirnError
from rirn.video import BrokenStream, check_target, deblur, mux
from rirn.video.companions import Companions
from rirn.video.files import part_name, parts_folder
from tests.video.clips import Delayed, Identity, picture, probe, write_clip

PACKET = 188  # bytes of a transport stream


def streams(path):
    """(kind, codec) of each stream."""
    with av.open(str(path)) as container:
        return [(s.type, s.codec_context.name if s.codec_context else None) for s in container.streams]


def payload(path):
    """What the packets of the first sound hold."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def remux(source, target, format=None, codecs=None):
    """Copy the packets of `source`."""
    with av.open(str(source)) as original, av.open(str(target), "w", format=format) as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in original.streams}
        for packet in original.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    return target


def camera(path, codec="pcm_s16le", channels=2):
    """Motion JPEG with sound of which the file says how many channels it has, and not which."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        sound = out.add_stream(codec, rate=48000)
        sound.codec_context.layout = f"{channels}c"
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(picture(64, 48, i), "rgb24").reformat(format="yuvj420p")
            out.mux(video.encode(frame))
        samples = np.zeros((1, 9600 * channels), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=f"{channels}c")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        out.mux(sound.encode(frame))
        out.mux(sound.encode())
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_that_nobody_named_get_the_usual_places(tmp_path, suffix, channels, caplog):
    clip = camera(tmp_path / "in.avi", channels=channels)
    deblur(Identity(), clip, tmp_path / f"out{suffix}", progress=False)
    times, _, sound = probe(tmp_path / f"out{suffix}")
    assert len(times) == 5 and b"".join(d for d, _ in sound[0]) == b"".join(d for d, _ in probe(clip)[2][0])
    assert not caplog.text


def damaged_sound(tmp_path):
    """A transport stream, one packet of whose sound has lost the word that it begins with."""
    path = tmp_path / "in.ts"
    remux(write_clip(tmp_path / "whole.mp4", 12, audio=("aac",)), path)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // PACKET // 2 * PACKET, len(data), PACKET):
        packet = data[at : at + PACKET]
        begins, of_sound = packet[1] & 0x40, (packet[1] & 31) << 8 | packet[2] == 0x101
        if begins and of_sound and (place := packet.find(b"\xff\xf1")) > 0:
            data[at + place : at + place + 2] = b"\0\0"
            break
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_damaged_packet_of_sound_is_left_out(tmp_path, suffix):
    clip, target = damaged_sound(tmp_path), tmp_path / f"out{suffix}"
    with pytest.raises(
        BrokenStream, match=r"is written, but 1 damaged packet of the audio stream 1, aac left out"
    ):
        deblur(Delayed(), clip, target, progress=False)
    times, _, sound = probe(target)
    assert len(times) == 12 and len(sound[0]) == len(probe(clip)[2][0]) - 1
    assert sorted(os.listdir(tmp_path)) == ["in.ts", target.name, "whole.mp4"]


def test_a_run_with_damaged_sound_is_over_once(tmp_path, capsys):
    command = ["deblur", str(damaged_sound(tmp_path)), str(tmp_path / "out.mp4"), "--model", "rirn-tiny"]
    assert main(command) == 1 and "is written, but" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0 and "done before" in capsys.readouterr().out


@pytest.mark.parametrize("sound", [(), ("aac",)])
def test_times_go_on_in_files_joined_end_to_end(tmp_path, sound, caplog):
    remux(write_clip(tmp_path / "in.mp4", 20, audio=sound), tmp_path / "one.ts")
    (tmp_path / "in.ts").write_bytes((tmp_path / "one.ts").read_bytes() * 3)
    deblur(Identity(), tmp_path / "in.ts", tmp_path / "out.mp4", progress=False)
    times, _, tones = probe(tmp_path / "out.mp4")
    steps = np.diff([float(t) for t in times])
    assert len(times) == 60 and np.abs(steps - 0.04).max() < (1e-6 if not sound else 0.1)
    assert caplog.text.count("starts anew 2 times") == 1 and len(caplog.records) == 1
    if sound:  # as far from its picture at the end as at the beginning
        one = probe(tmp_path / "one.ts")
        count = len(one[2][0])
        for part in range(3):
            apart = float(tones[0][part * count][1] - times[part * 20])
            assert apart == pytest.approx(float(one[2][0][0][1] - one[0][0]), abs=0.1)


def test_stamps_that_repeat_are_said_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("rirn.video.pipeline.SEGMENT", 5)
    clip = write_clip(tmp_path / "in.mkv", 20, pts=[3600 * (i // 2) for i in range(20)], codec="ffv1")
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    assert len(probe(tmp_path / "out.mp4")[0]) == 20
    assert caplog.text.count("cannot be believed (many repeat)") == 1 and len(caplog.records) == 1


def with_cover(path, codec="png"):
    """A Matroska file with a cover."""
    image = io.BytesIO()
    with av.open(image, "w", format="image2pipe") as out:
        stream = out.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24" if codec == "png" else "yuvj420p"
        frame = av.VideoFrame.from_ndarray(picture(32, 32, 0), "rgb24").reformat(format=stream.pix_fmt)
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    clip = write_clip(path.with_name("plain.mkv"), 5)
    with av.open(str(clip)) as original, av.open(str(path), "w") as out:
        video = out.add_stream_from_template(original.streams.video[0], opaque=True)
        name, kind = ("cover.png", "image/png") if codec == "png" else ("cover.jpg", "image/jpeg")
        out.add_attachment(name, kind, image.getvalue())
        for packet in original.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    return path


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
def test_a_cover_stays_one(tmp_path, codec, caplog):
    clip = with_cover(tmp_path / "in.mkv", codec)
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    deblur(Identity(), tmp_path / "out.mp4", tmp_path / "out.mkv", progress=False)
    covers = []
    for path in (clip, tmp_path / "out.mp4", tmp_path / "out.mkv"):
        with av.open(str(path)) as container:
            (cover,) = [
                s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic
            ]
            covers.append(bytes(next(p for p in container.demux(cover) if p.size)))
    assert covers[0] == covers[1] == covers[2] and not caplog.text


def test_a_second_picture_without_an_encoder_of_its_name_comes_along(tmp_path, caplog):
    first, second = (write_clip(tmp_path / f"{i}.mp4", 5) for i in range(2))
    clip = tmp_path / "in.mp4"
    with av.open(str(first)) as a, av.open(str(second)) as b, av.open(str(clip), "w") as out:
        copies = [out.add_stream_from_template(c.streams.video[0], opaque=True) for c in (a, b)]
        for container, stream in zip((a, b), copies, strict=True):
            for packet in container.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    assert streams(tmp_path / "out.mp4") == [("video", "h264")] * 2 and not caplog.text


@pytest.mark.parametrize(
    ("codec", "words"),
    [("wmav2", "; .mkv or .mov can."), ("adpcm_ms", "; .mkv can."), ("adpcm_swf", "; .mkv or .mov can.")],
)
def test_formats_that_are_offered_hold_it(tmp_path, codec, words, caplog):
    """Also those of which PyAV's table says that they do not."""
    path = tmp_path / ("in.wmv" if codec == "wmav2" else "in.nut")
    with av.open(str(path), "w") as out:
        video = out.add_stream("wmv2" if codec == "wmav2" else "mpeg4", rate=25)
        video.width, video.height = 64, 48
        sound = out.add_stream(codec, rate=44100, bit_rate=128000)
        for i in range(5):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture(64, 48, i), "rgb24")))
        out.mux(video.encode())
        for packet in _tone(sound):
            out.mux(packet)
    deblur(Identity(), path, tmp_path / "out.mp4", progress=False)
    assert streams(tmp_path / "out.mp4") == [("video", "h264")] and words in caplog.text
    caplog.clear()
    for suffix in (".mkv", ".mov"):
        if suffix in words:
            deblur(Identity(), path, tmp_path / f"out{suffix}", progress=False)
            assert streams(tmp_path / f"out{suffix}")[1] == ("audio", codec) and not caplog.text
            assert payload(tmp_path / f"out{suffix}") == payload(path)


def _tone(stream):
    size = stream.codec_context.frame_size or 1024
    for start in range(0, 3 * size, size):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * size), np.int16), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=44100)
        for piece in resampler.resample(frame):
            yield from stream.encode(piece)
    yield from stream.encode()


def refuse(monkeypatch, *, kinds, formats=("mp4", "mov", "matroska"), when="mux"):
    """Let muxers refuse streams, or the pictures as well, once the rehearsal is over."""
    muxer, began = mux.muxer, []

    class Refusing:
        def __init__(self, out):
            self._out = out

        def __getattr__(self, name):
            return getattr(self._out, name)

        def mux(self, packet):
            if self._out.streams[packet.stream_index].type in kinds:
                raise av.error.InvalidDataError(1094995529, "Invalid data found when processing input")
            self._out.mux(packet)

    @contextmanager
    def refusing(file, format, options=None):
        with muxer(file, format, options) as out:
            began.append(format)
            yield Refusing(out) if format in formats and len(began) > 1 else out

    monkeypatch.setattr(mux, "muxer", refusing)


@pytest.mark.parametrize("model", [Identity, Delayed])
def test_the_last_resort_is_the_pictures_alone(tmp_path, monkeypatch, model):
    clip = write_clip(tmp_path / "in.mp4", 12, audio=("aac",))
    refuse(monkeypatch, kinds=("audio",))
    with pytest.raises(BrokenStream, match=r"out\.mp4 is written, but all but the pictures is left out"):
        deblur(model(), clip, tmp_path / "out.mp4", progress=False)
    assert streams(tmp_path / "out.mp4") == [("video", "h264")] and len(probe(tmp_path / "out.mp4")[0]) == 12
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize(("suffix", "other"), [(".mp4", ".mkv"), (".mkv", ".mov")])
def test_pictures_that_a_format_refuses_become_another(tmp_path, monkeypatch, suffix, other):
    clip = write_clip(tmp_path / "in.mp4", 12)
    (tmp_path / f"out{other}").write_bytes(b"mine")
    refuse(monkeypatch, kinds=("video",), formats=({".mp4": "mp4", ".mkv": "matroska"}[suffix],))
    with pytest.raises(BrokenStream, match=rf"cannot hold the pictures .*; they are in .*out-2{other}"):
        deblur(Identity(), clip, tmp_path / f"out{suffix}", progress=False)
    assert len(probe(tmp_path / f"out-2{other}")[0]) == 12
    assert (tmp_path / f"out{other}").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == sorted(["in.mp4", f"out{other}", f"out-2{other}"])


def test_what_would_fail_at_the_end_fails_before_the_first_frame(tmp_path, monkeypatch):
    clip, network = write_clip(tmp_path / "in.mp4", 12), Identity()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rirn.video.mux.muxer", full)
    with pytest.raises(RirnError, match="No space left on device"):
        deblur(network, clip, tmp_path / "out.mp4", progress=False)
    assert not network.states and os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("size", [240, 241, 248, 255])
@pytest.mark.parametrize("letter", ["a", "日"])
def test_names_may_be_as_long_as_the_file_system_takes(tmp_path, size, letter):
    clip = write_clip(tmp_path / "in.mp4", 12)
    room = size - len(".mp4")
    stem = letter * (room // len(letter.encode()))
    target = tmp_path / f"{stem.ljust(len(stem) + room - len(stem.encode()), 'b')}.mp4"
    assert len(os.fsencode(target.name)) == size
    deblur(Identity(), clip, target, progress=False)
    assert len(probe(target)[0]) == 12 and sorted(os.listdir(tmp_path)) == sorted(["in.mp4", target.name])


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path):
    with pytest.raises(RirnError, match="has 256 bytes, and this file system takes 255; give a shorter one"):
        check_target("in.mp4", tmp_path / f"{'a' * 252}.mp4")


def test_long_names_that_begin_alike_have_parts_of_their_own(tmp_path):
    first, second = (tmp_path / f"{'a' * 250}{i}.mp4" for i in range(2))
    assert parts_folder(first) != parts_folder(second) and parts_folder(first) == parts_folder(first)
    assert part_name(first) != part_name(first)
    for path in (parts_folder(first), part_name(first)):
        assert len(os.fsencode(path.name)) <= 255


def test_a_damaged_segment_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("rirn.video.pipeline.SEGMENT", 5)
    clip = write_clip(tmp_path / "in.mp4", 23)

    class Stops(Identity):
        def restore(self, frame):
            if len(self.states) == 13:
                raise KeyboardInterrupt
            return frame

    with pytest.raises(KeyboardInterrupt):
        deblur(Stops(), clip, tmp_path / "out.mp4", progress=False)
    segment = sorted((tmp_path / "out.mp4.resume").glob("segment-*"))[0]
    segment.write_bytes(segment.read_bytes()[:100])
    again = Stops()
    with pytest.raises(RirnError, match="is damaged; delete its folder to start again"):
        deblur(again, clip, tmp_path / "out.mp4", progress=False, resume=True)
    assert not again.states


def test_a_target_that_exists_is_not_replaced_unasked(tmp_path, capsys):
    first, second = (write_clip(tmp_path / f"{n}.mp4", n) for n in (2, 3))
    before = second.read_bytes()
    command = ["deblur", str(first), str(second), "--model", "rirn-tiny"]
    assert main(command) == 1
    assert "3.mp4 exists; add --overwrite to replace it" in capsys.readouterr().err
    assert second.read_bytes() == before
    assert main([*command, "--overwrite"]) == 0 and len(probe(second)[0]) == 2


def test_a_batch_says_what_it_replaces(tmp_path, capsys):
    sources = [str(write_clip(tmp_path / f"{name}.mp4", 2)) for name in "ab"]
    command = ["deblur", *sources, str(tmp_path / "out"), "--model", "rirn-tiny"]
    assert main(command) == 0
    (tmp_path / "out" / "b.mp4").unlink()
    capsys.readouterr()
    assert main(command) == 1
    assert (
        "1 of 2 targets exist" in (said := capsys.readouterr().err) and "a.mp4" in said and "--resume" in said
    )
    assert os.listdir(tmp_path / "out") == ["a.mp4"]
    assert main([*command, "--overwrite"]) == 0
    assert "1 of 2 targets exist and are replaced" in capsys.readouterr().err


def test_what_a_source_holds_is_tried_once_for_each_stream(tmp_path, caplog):
    clip = write_clip(tmp_path / "in.mkv", 5, audio=("wavpack", "aac"))
    companions = Companions(clip, 0, tmp_path / "out.mp4")
    assert companions.kept == {2} and companions.left_out == {1: "audio stream 1, wavpack"}
    assert ".mkv can." in caplog.text
