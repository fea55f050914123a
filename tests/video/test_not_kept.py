"""What does not come along is said, and what a target has no flag for is done to its pictures."""

import io
import os
import shlex
import subprocess
import threading
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from rirn.errors import RirnError
from rirn.video import Reader, deblur
from tests.video.clips import Identity, picture, probe, psnr, write_clip
from tests.video.tools import FFMPEG, ffmpeg

QUARTER = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("matrix", [None, QUARTER], ids=["upright", "turned"])
def test_images_of_a_turned_video_are_upright(tmp_path, matrix):
    clip = write_clip(tmp_path / "in.mp4", 2, matrix=matrix)
    with Reader(clip) as reader:
        turns = round(reader.info.rotation / 90) % 4
    deblur(Identity(), clip, tmp_path / "out", progress=False)
    with Image.open(tmp_path / "out" / "00000001.png") as image:
        assert psnr(np.rot90(picture(64, 48, 1), turns), np.asarray(image)) > 30


def test_keys_of_quicktime_come_along(tmp_path):
    tags = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.location.ISO6709": "+52.0+004.0/"}
    clip = write_clip(
        tmp_path / "in.mov", 2, metadata=tags, container_options={"movflags": "use_metadata_tags"}
    )
    deblur(Identity(), clip, tmp_path / "out.mov", progress=False)
    with av.open(str(tmp_path / "out.mov")) as container:
        assert {key: container.metadata.get(key) for key in tags} == tags


# An MP4 with its index at the end cannot be read as it comes.
@pytest.mark.parametrize("container", [".mkv", ".mp4"])
def test_a_pipe_keeps_its_sound(tmp_path, monkeypatch, caplog, container):
    clip = write_clip(tmp_path / f"in{container}", 3, audio=("aac",), metadata={"title": "walk"})
    pipe = SimpleNamespace(read=io.BytesIO(clip.read_bytes()).read)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe))
    deblur(Identity(), "-", tmp_path / "out.mkv", progress=False)
    assert caplog.text.count("it is read whole into") == 1
    assert [data for data, _ in probe(tmp_path / "out.mkv")[2][0]] == [data for data, _ in probe(clip)[2][0]]
    assert {p.name for p in tmp_path.iterdir()} == {clip.name, "out.mkv"}
    with av.open(str(tmp_path / "out.mkv")) as out:
        assert out.metadata["title"] == "walk"


def test_a_named_pipe_keeps_its_sound(tmp_path):
    clip = write_clip(tmp_path / "in.mkv", 3, audio=("aac",))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(clip.read_bytes()))
    writer.start()
    deblur(Identity(), tmp_path / "pipe", tmp_path / "out.mkv", progress=False)
    writer.join()
    times, _, sound = probe(tmp_path / "out.mkv")
    assert len(times) == 3 and len(sound[0]) > 5


def test_pictures_alone_are_read_as_they_come(tmp_path, monkeypatch, caplog):
    clip = write_clip(tmp_path / "in.mkv", 3)
    with clip.open("rb") as pipe:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe))
        deblur(Identity(), "-", tmp_path / "out.mkv", progress=False)
    assert caplog.text == "" and len(probe(tmp_path / "out.mkv")[0]) == 3


def test_the_sound_of_a_pipe_to_images_is_named(tmp_path, monkeypatch, caplog):
    clip = write_clip(tmp_path / "in.mkv", 3, audio=("aac",))
    with clip.open("rb") as pipe:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe))
        deblur(Identity(), "-", tmp_path / "out", progress=False)
    assert caplog.text.count("out does not hold: audio stream 1, aac.") == 1


def test_hdr_is_refused_with_the_line_that_makes_it_sdr(tmp_path):
    clip = write_clip(
        tmp_path / "in the dark.mov",
        2,
        codec="libx264",
        pix_fmt="yuv420p10le",
        color_trc=18,
        colorspace=9,
        color_primaries=9,
        color_range=1,
    )
    with pytest.raises(RirnError, match="HLG transfer") as refused:
        deblur(Identity(), clip, tmp_path / "out.mov")
    words = shlex.split(str(refused.value).partition("ffmpeg ")[2])
    assert words[:2] == ["-i", str(clip)] and words[-1] == str(tmp_path / "in the dark-sdr.mp4")
    filters = subprocess.run([FFMPEG, "-hide_banner", "-filters"], capture_output=True, text=True, check=True)
    if " zscale " not in filters.stdout:
        return
    ffmpeg(*words)
    with Reader(words[-1]) as reader:
        assert reader.info.colour.transfer == 1 and len(list(reader)) == 2
