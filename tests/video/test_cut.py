"""A part of a video: which frames it has, and sound, subtitles and chapters in step."""

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from rirn.cli import main
from rirn.commands.parser import parse_time
from rirn.data import list_images, read_image
from rirn.errors import RirnError
from rirn.video import Options, Reader, deblur
from rirn.video.cut import Cut
from tests.video.clips import Identity, picture, probe, psnr, write_clip
from tests.video.tools import ffmpeg

TICKS = [3600 * i + 900 * (i % 3) for i in range(40)]  # a variable rate, with B-frames
SRT = "1\n00:00:00,050 --> 00:00:00,250\nacross the start\n\n2\n00:00:00,300 --> 00:00:05,000\nacross the end\n\n"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    options = {"bf": "3", "g": "12", "preset": "medium"}
    write_clip(folder / "in.mp4", 40, pts=TICKS, audio=("aac",), options=options)
    (folder / "in.srt").write_text(SRT)
    (folder / "chapters").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=one\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=200\nEND=1600\ntitle=two\n"
    )
    inputs = [word for name in ("in.mp4", "in.srt", "chapters") for word in ("-i", folder / name)]
    ffmpeg(
        *inputs,
        "-map",
        "0",
        "-map",
        "1",
        "-map_metadata",
        "2",
        "-c",
        "copy",
        "-c:s",
        "mov_text",
        folder / "all.mp4",
    )
    return folder / "all.mp4"


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_frames_sound_subtitles_and_chapters_are_cut_alike(clip, tmp_path, suffix):
    target = tmp_path / f"out{suffix}"
    part = Cut(Fraction("0.1"), Fraction("0.3"))
    deblur(Identity(), clip, target, progress=False, cut=part)
    times, frames, sound = probe(clip)
    chosen = [i for i, time in enumerate(times) if part.start <= time < part.end]
    begin = times[chosen[0]]
    cut_times, cut_frames, cut_sound = probe(target)
    assert cut_times == [times[i] - begin for i in chosen] and len(chosen) > 6
    assert all(psnr(a, frames[i]) > 35 for a, i in zip(cut_frames, chosen, strict=True))
    end = cut_times[-1] + times[chosen[-1] + 1] - times[chosen[-1]]
    kept = [(data, time - begin) for data, time in sound[0] if 0 <= time - begin < end]
    assert cut_sound[0] == kept and len(kept) > 10
    with av.open(str(target)) as container:
        chapters = [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in container.chapters()]
        texts = [
            (float(p.pts * p.time_base), float(p.duration * p.time_base), bytes(p)[2:])
            for p in container.demux(container.streams.subtitles[0])
            if p.size > 2
        ]
    first, second = Fraction("0.2") - begin, float(Fraction("0.3") - begin)
    assert chapters == [(0, "one"), (pytest.approx(float(first), abs=1e-3), "two")]
    assert [text for _, _, text in texts] == [b"across the start", b"across the end"]
    assert texts[0][:2] == pytest.approx((0, float(Fraction("0.25") - begin)), abs=1e-3)
    assert texts[1][:2] == pytest.approx((second, float(end) - second), abs=2e-3)


def test_what_lies_before_is_not_decoded_but_counts(clip):
    """Any start gives the frames of the whole video from there on, also within groups of B-frames."""
    with Reader(clip) as reader:
        whole = [(f.pts * f.time_base, f.rgb) for f in reader]
    for index in (1, 11, 12, 13, 25, 39):
        with Reader(clip, cut=Cut(whole[index][0], frames=3)) as reader:
            found = [(f.pts * f.time_base + reader.begin, f.rgb) for f in reader]
        expected = whole[index : index + 3]
        assert [t for t, _ in found] == [t for t, _ in expected]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


def test_images_and_a_command(tmp_path):
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in.mp4", 8)
    deblur(Identity(), tmp_path / "in.mp4", tmp_path / "all", progress=False)
    words = ["deblur", str(tmp_path / "all"), str(tmp_path / "out"), "--model", "rirn-tiny"]
    assert main([*words, "--start", "0:00:00.1", "--frames", "2", "--rate", "20"]) == 0
    names = [p.stem for p in list_images(tmp_path / "out")]
    assert names == ["00000002", "00000003"]
    found = read_image(tmp_path / "out" / "00000002.png")
    assert max(range(8), key=lambda i: psnr(found, picture(64, 48, i))) == 2


def test_another_part_is_not_continued(tmp_path):
    class Stops(Identity):
        def step(self, frame, state):
            if len(self.states) == 125:
                raise KeyboardInterrupt
            return super().step(frame, state)

    Stops.__name__ = "Identity"  # another model would be another run
    clip = write_clip(tmp_path / "in.mp4", 140, options={"preset": "ultrafast"})
    target = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        deblur(Stops(), clip, target, progress=False, cut=Cut(Fraction("0.04")))
    with pytest.raises(RirnError, match="'start' was '1/25' and is '2/25' now"):
        deblur(Identity(), clip, target, progress=False, resume=True, cut=Cut(Fraction("0.08")))
    summary = deblur(Identity(), clip, target, progress=False, resume=True, cut=Cut(Fraction("0.04")))
    assert (summary.frames, summary.resumed) == (139, 120)
    _, frames, _ = probe(target)
    assert len(frames) == 139 and psnr(frames[-1], picture(64, 48, 139)) > 30


def test_a_part_of_a_pipe(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "in.mkv", 9, audio=("aac",))
    with clip.open("rb") as pipe:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe))
        deblur(Identity(), "-", tmp_path / "out.mkv", progress=False, cut=Cut(Fraction("0.08"), frames=4))
    times, frames, sound = probe(tmp_path / "out.mkv")
    assert times == [Fraction(i, 25) for i in range(4)] and psnr(frames[0], picture(64, 48, 2)) > 30
    assert 5 < len(sound[0]) < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": Cut(Fraction(99))}, "has no frame at or after 99 s"),
        ({"tile": 100}, "A tile of 100 pixels is not possible"),
        ({"hdr": "keep"}, "no way to treat HDR"),
        ({"progress": "dots"}, "no way to show progress"),
        ({"rate": 0}, "frame rate of 0"),
        ({"strength": 2}, "between 0 and 1.5"),
        ({"dtype": "fp8"}, "no number format"),
    ],
)
def test_impossible_options_are_one_sentence(clip, tmp_path, options, message):
    with pytest.raises(RirnError, match=message):
        deblur(Identity(), clip, tmp_path / "out.mp4", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("values", [(-1,), (0, 0), (0, None, 0)])
def test_impossible_parts(values):
    with pytest.raises(RirnError, match=r"not possible|at least 1"):
        Cut(*values)


def test_options_are_checked_before_anything_is_opened(tmp_path):
    with pytest.raises(RirnError, match="tile of 7"):
        Options(tile=7)
    with pytest.raises(RirnError, match="tile of 7"):
        deblur(Identity(), tmp_path / "none.mp4", tmp_path / "out.mp4", tile=7)


def test_times_as_typed():
    assert [parse_time(t) for t in ("90", "1:30", "0:01:30.5", ".5")] == [
        90,
        90,
        Fraction(181, 2),
        Fraction(1, 2),
    ]
    for text in ("", "x", "1:2:3:4", "-1", "1:", "nan", "1e3"):
        with pytest.raises(RirnError, match="is no time"):
            parse_time(text)
