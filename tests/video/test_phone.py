"""A film of a phone from start to end: turned, at a variable rate, with sound, place and telemetry; and one in HDR."""

import os
import shlex
import subprocess
from fractions import Fraction

import av
import pytest

from rirn.cli import main
from rirn.video import Reader
from tests.video.clips import probe, write_clip
from tests.video.test_cut import TICKS
from tests.video.tools import FFMPEG, ffmpeg, ffprobe

QUARTER = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
TAGS = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.model": "iPhone 13",
    "com.apple.quicktime.creationdate": "2022-11-09T20:36:38+0300",
    "com.apple.quicktime.location.ISO6709": "+52.0+004.0/",
    "creation_time": "2022-11-09T17:36:38.000000Z",
}
HLG = {"color_trc": 18, "colorspace": 9, "color_primaries": 9, "color_range": 1}


def film(path, **colour):
    """12 frames as a phone writes them, and how they are said to be shown."""
    options = {"preset": "ultrafast", "bf": "2"}
    if colour:
        options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    plain = write_clip(
        path.with_name("plain.mov"), 12, pts=TICKS[:12], audio=("aac",), matrix=QUARTER, metadata=TAGS,
        container_options={"movflags": "use_metadata_tags"}, codec="libx265" if colour else "libx264",
        pix_fmt="yuv420p10le" if colour else "yuv420p", options=options, **colour,
    )  # fmt: skip
    flags = {"movflags": "use_metadata_tags"}
    with (
        av.open(str(plain)) as original,
        av.open(str(path.with_suffix(".gpmd")), "w", format="mp4", container_options=flags) as out,
    ):
        copies = [out.add_stream_from_template(s, opaque=True) for s in original.streams]
        copies[0].set_display_matrix(QUARTER)
        out.metadata.update(original.metadata)
        telemetry = out.add_data_stream("bin_data")
        for packet in (p for p in original.demux() if p.size):
            packet.stream = copies[packet.stream_index]
            out.mux(packet)
        for i in range(2):
            packet = av.Packet(bytes(32))
            packet.pts = packet.dts = 200 * i
            packet.duration, packet.time_base, packet.stream = 200, Fraction(1, 1000), telemetry
            out.mux(packet)
    # A name of samples that no muxer writes, as Apple's own.
    path.write_bytes(path.with_suffix(".gpmd").read_bytes().replace(b"gpmd", b"mebx"))
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_a_film_of_a_phone(tmp_path, capsys, caplog):
    clip, target = film(tmp_path / "IMG_0042.MOV"), tmp_path / "sharp.mov"
    assert main(["deblur", str(clip), str(target), "--model", "rirn-tiny"]) == 0
    assert "12 frames" in capsys.readouterr().out
    lines = [r.message for r in caplog.records if "does not hold" in r.message]
    assert lines == [f"{target} does not hold: data stream 2, unknown codec."]
    before, after = ffprobe(clip), ffprobe(target)
    assert [s["codec_type"] for s in after["streams"]] == ["video", "audio"]
    assert before["streams"][0]["rotation"] == after["streams"][0]["rotation"] == -90
    for key, value in TAGS.items():
        assert after["format"]["tags"][key.lower()] == value
    assert probe(clip)[0] == probe(target)[0] and probe(clip)[2] == probe(target)[2]
    assert os.stat(target).st_mtime_ns == 10**18


def test_a_film_in_hdr_is_refused_with_the_line_that_helps(tmp_path, capsys):
    clip, target = film(tmp_path / "IMG_0043.MOV", **HLG), tmp_path / "sharp.mov"
    assert main(["deblur", str(clip), str(target), "--model", "rirn-tiny"]) == 1
    said = capsys.readouterr().err
    assert "is HDR (HLG transfer)" in said and not target.exists()
    words = shlex.split(said.strip().rpartition(": ffmpeg ")[2])
    sdr = tmp_path / "IMG_0043-sdr.mp4"
    assert words[-1] == str(sdr)
    filters = subprocess.run([FFMPEG, "-hide_banner", "-filters"], capture_output=True, text=True, check=True)
    if " zscale " not in filters.stdout:
        pytest.skip("this ffmpeg has no zscale")
    ffmpeg(*words)
    assert main(["deblur", str(sdr), str(target), "--model", "rirn-tiny"]) == 0
    with Reader(target) as reader:
        assert reader.info.colour.transfer == 1 and len(list(reader)) == 12
    assert len(probe(target)[2][0]) > 5
