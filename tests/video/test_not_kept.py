"""What does not come along is said, and what a target has no flag for is done to its pictures."""

import os
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from PIL import Image

from rirn.errors import RirnError
from rirn.video import Reader, deblur
from rirn.video.reader import _not_kept
from tests.video.clips import Identity, picture, psnr, write_clip

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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interlaced_frame": True}, "interlaced"),
        ({"format": SimpleNamespace(name="yuva444p10le")}, "transparency"),
        ({"side_data": {Type.A53_CC: b""}}, "closed captions"),
    ],
)
def test_what_a_picture_loses_is_named(changes, words):
    plain = {"interlaced_frame": False, "format": SimpleNamespace(name="yuv420p"), "side_data": {}}
    assert _not_kept(SimpleNamespace(**plain)) == []
    (said,) = _not_kept(SimpleNamespace(**{**plain, **changes}))
    assert words in said


def test_a_named_pipe_is_refused_with_the_way_to_read_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RirnError, match="is a pipe; give - as the source"):
        Reader(tmp_path / "pipe")


def test_the_sound_of_a_pipe_is_named(tmp_path, monkeypatch, caplog):
    clip = write_clip(tmp_path / "in.mkv", 3, audio=("aac",))
    with clip.open("rb") as pipe:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe))
        deblur(Identity(), "-", tmp_path / "out.mkv", progress=False)
    assert caplog.text.count("the audio stream 1 cannot be read a second time and is left out") == 1
