"""Times of files that begin late, early or anew, are cut by an edit list, or are stamped with times nobody can believe."""

import itertools
from fractions import Fraction

import av
import pytest

from rirn.video import Reader, deblur
from tests.video.clips import Identity, encode_tone, picture, probe, psnr, write_clip
from tests.video.tools import ffmpeg

FRAMES = 30
EVEN = [Fraction(i, 25) for i in range(FRAMES)]


def retimed(path, time, *, container=None, audio=True):
    """A clip of even packets without B-frames, whose packet i of pictures is stamped `time(i)` ticks of 1/12800 s."""
    source = write_clip(path.with_name("even.mp4"), FRAMES, options={"bf": "0", "preset": "ultrafast"})
    with av.open(str(source)) as pictures, av.open(str(path), "w", format=container) as out:
        video = out.add_stream_from_template(pictures.streams.video[0])
        tone = out.add_stream("aac", rate=48000) if audio else None
        for i, packet in enumerate(p for p in pictures.demux(video=0) if p.size):
            packet.stream, packet.time_base = video, Fraction(1, 12800)
            packet.pts = packet.dts = time(i)
            out.mux(packet)
        for packet in encode_tone(tone, 440, 1.2) if audio else ():
            out.mux(packet)
    return path


def seen(path):
    """Time and number of each frame, the latter told by its picture."""
    times, frames, _ = probe(path)
    numbers = []
    for frame in frames:
        near = range(max(0, len(numbers) - 2), min(FRAMES, len(numbers) + 3))
        numbers.append(max(near, key=lambda i: psnr(frame, picture(64, 48, i))))
    return times, numbers


@pytest.mark.parametrize(
    "time",
    [lambda i: 0, lambda i: i // 2 * 1024, lambda i: i // 5 * 2560, lambda i: i],
    ids=["all zero", "pairs", "fives", "a tick apart"],
)
def test_times_that_cannot_be_believed_become_even(tmp_path, caplog, time):
    clip = retimed(tmp_path / "in.mkv", time)
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    times, numbers = seen(tmp_path / "out.mp4")
    assert numbers == list(range(FRAMES))
    steps = {b - a for a, b in itertools.pairwise(times)}
    assert len(steps) == 1 or max(steps) - min(steps) <= Fraction(1, 1000), steps
    assert caplog.text.count("cannot be believed") == 1 and "are stamped with" not in caplog.text


def test_one_repeated_stamp_is_moved_alone(tmp_path, caplog):
    clip = retimed(tmp_path / "in.mkv", lambda i: (i - (i == 7)) * 512)
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    times, _ = seen(tmp_path / "out.mp4")
    offset = times[0]
    assert [t - offset for i, t in enumerate(times) if i != 7] == [t for i, t in enumerate(EVEN) if i != 7]
    assert "1 frames" in caplog.text and "cannot be believed" not in caplog.text


def test_b_frames_without_times_to_show_them_are_even(tmp_path, caplog):
    ffmpeg(
        *("-i", write_clip(tmp_path / "in.mp4", FRAMES, options={"bf": "3", "g": "12"})),
        *("-c", "copy", tmp_path / "in.avi"),
    )
    deblur(Identity(), tmp_path / "in.avi", tmp_path / "out.mp4", progress=False)
    times, numbers = seen(tmp_path / "out.mp4")
    assert [t - times[0] for t in times] == EVEN and numbers == list(range(FRAMES))
    assert caplog.text.count("AVI has none for B-frames") == 1


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_what_an_avi_does_say_is_kept(tmp_path, caplog, codec):
    clip = write_clip(tmp_path / "in.avi", FRAMES, codec=codec, time_base=Fraction(1, 25), pts=range(FRAMES),
                      options={"bf": "0"})  # fmt: skip
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    assert probe(tmp_path / "out.mp4")[0] == probe(clip)[0] and "believed" not in caplog.text


@pytest.mark.parametrize(
    "offset", [0, 1.46, 40_000, 95_441.9, 95_443]
)  # 33 bits of 1/90000 s end at 95,443.7
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_broadcast_begins_at_0_with_sound_in_step(tmp_path, offset, suffix):
    source = write_clip(tmp_path / "in.mp4", FRAMES, audio=("aac",), options={"bf": "2"})
    ffmpeg("-i", source, "-c", "copy", "-output_ts_offset", offset, "-f", "mpegts", tmp_path / "in.ts")
    target = tmp_path / f"out{suffix}"
    deblur(Identity(), tmp_path / "in.ts", target, progress=False)
    times, numbers = seen(target)
    _, _, sound = probe(target)
    assert numbers == list(range(FRAMES)) and 0 <= min(times[0], sound[0][0][1]) < Fraction(1, 500)
    assert max(abs(t - times[0] - e) for t, e in zip(times, EVEN, strict=True)) <= Fraction(1, 1000)
    with av.open(str(tmp_path / "in.ts")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        lag = audio.start_time * audio.time_base - video.start_time * video.time_base
    assert abs(sound[0][0][1] - times[0] - lag) < Fraction(1, 500)


def test_pictures_below_0_are_not_hidden(tmp_path):
    """Stored without an edit list, as NUT and some recorders do."""
    clip = retimed(tmp_path / "in.nut", lambda i: (i - 10) * 512, container="nut")
    with Reader(clip) as reader:
        begin = next(iter(reader)).pts
    for suffix in (".mp4", ".mkv", ".mov"):
        deblur(Identity(), clip, tmp_path / f"out{suffix}", progress=False)
        times, numbers = seen(tmp_path / f"out{suffix}")
        assert begin >= 0 and len(times) == FRAMES and numbers == list(range(FRAMES))
        assert max(abs(t - times[0] - e) for t, e in zip(times, EVEN, strict=True)) <= Fraction(1, 1000)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("source", [".mp4", ".mov"])
def test_what_an_edit_list_cuts_off_does_not_come_back(tmp_path, source, suffix):
    whole = write_clip(tmp_path / "whole.mp4", FRAMES, options={"g": "30", "bf": "2"})
    ffmpeg(
        "-i",
        whole,
        "-f",
        "lavfi",
        "-i",
        "sine=d=1.2:r=48000",
        "-c:v",
        "copy",
        "-c:a",
        "aac",
        tmp_path / "both.mp4",
    )
    clip = tmp_path / f"in{source}"
    ffmpeg("-ss", "0.6", "-i", tmp_path / "both.mp4", "-c", "copy", clip)
    with av.open(str(clip)) as container:
        kept = sum(1 for p in container.demux(audio=0) if p.size and not p.is_discard)
        container.seek(0)
        trimmed = sum(p.is_discard for p in container.demux(audio=0))
    assert trimmed > 20
    target = tmp_path / f"out{suffix}"
    deblur(Identity(), clip, target, progress=False)
    times, frames, sound = probe(target)
    shown, _, _ = probe(clip)
    assert [t - times[0] for t in times] == pytest.approx([t - shown[0] for t in shown], abs=1e-3)
    assert psnr(frames[0], picture(64, 48, 15)) > 30 and len(sound[0]) == kept + 1
    assert abs(sound[0][1][1] - times[0]) < Fraction(1, 40)  # the first that is heard
