"""What phones, cameras, recorders and downloads write: each comes through whole, or what is missing is named."""

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

from rirn.video import Encoding, Reader, deblur
from tests.video.clips import Identity, psnr
from tests.video.tools import ffmpeg

FAST = Encoding(preset="ultrafast", options={"threads": "1"})
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
# What is written, by the name of the file; {v} are pictures, {a} is sound, as inputs of ffmpeg.
RECORDINGS = {
    "phone.3gp": "{v} {a} -s 128x96 -c:v h263 -c:a aac",
    "camcorder.mts": f"{{v}} {{a}} {H264} -flags +ildct+ilme -x264-params tff=1 -c:a ac3 -mpegts_m2ts_mode 1 -f mpegts",
    "camcorder.mpg": "{v} {a} -c:v mpeg2video -bf 2 -c:a mp2",
    "camcorder.dv": "{v} {a} -s 720x576 -pix_fmt yuv420p -c:v dvvideo -c:a pcm_s16le -ar 48000 -ac 2",
    "disc.vob": "{v} {a} -c:v mpeg2video -bf 2 -c:a ac3 -f vob",
    "webcam.avi": "{v} {a} -c:v mjpeg -pix_fmt yuvj420p -c:a pcm_u8 -ar 8000",
    "divx.avi": "{v} {a} -c:v mpeg4 -bf 2 -c:a mp3",
    "security.mkv": f"{{v}} {{a}} {H264} -c:a pcm_alaw -ar 8000",
    "security.asf": "{v} {a} -c:v msmpeg4 -c:a wmav2",
    "stream.flv": f"{{v}} {{a}} {H264} -bf 2 -c:a aac -ar 44100",
    "old.flv": "{v} {a} -c:v flv -c:a adpcm_swf -ar 22050",
    "old.rm": "{v} {a} -c:v rv20 -c:a ac3",
    "old.ogv": "{v} {a} -c:v libtheora -c:a libvorbis",
    "old.mov": "{v} {a} -c:v svq1 -c:a adpcm_ima_qt -ar 22050",
    "broadcast.mxf": "{v} {a} -c:v mpeg2video -c:a pcm_s16le -ar 48000",
    "download.webm": "{v} {a} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus",
    "download.mkv": "{v} {a} -c:v libvpx -deadline realtime -c:a eac3",
    "capture.mkv": "{v} {a} -c:v ffv1 -pix_fmt bgr0 -c:a flac",
    "capture.mov": "{v} {a} -c:v png -pix_fmt rgb24 -c:a alac",
    "broken off.mp4": f"{{v}} {{a}} {H264} -c:a aac -movflags frag_keyframe+empty_moov",
    "late sound.mp4": f"{{v}} -itsoffset 0.2 {{a}} {H264} -bf 2 -c:a aac",
    "late pictures.mp4": f"-itsoffset 0.2 {{v}} {{a}} {H264} -bf 2 -c:a aac",
    "late pictures.mkv": f"-itsoffset 0.2 {{v}} {{a}} {H264} -bf 2 -c:a aac",
    "long sound.mov": f"{{v}} -f lavfi -i sine=d=3 {H264} -c:a pcm_s16be",
    "slow motion.mp4": f"-f lavfi -i testsrc2=s=64x48:r=240:d=0.1,gblur=4 {{a}} {H264} -bf 2 -c:a aac",
    "time lapse.mp4": f"-f lavfi -i testsrc2=s=64x48:r=1/2:d=20,gblur=4 {H264} -bf 2",
    "ntsc.mov": f"-f lavfi -i testsrc2=s=64x48:r=30000/1001:d=0.4,gblur=4 {{a}} {H264} -bf 2 -c:a aac -timecode 01:00:00;02",
    "grey.mkv": "{v} {a} -c:v ffv1 -pix_fmt gray -c:a dca -strict -2",
    "grey10.mkv": "{v} -c:v ffv1 -pix_fmt gray10le",
    "quarter.avi": "{v} -c:v cinepak",
    "ntsc.dv": "-f lavfi -i testsrc2=s=720x480:r=30000/1001:d=0.1,gblur=4 {a} -c:v dvvideo -pix_fmt yuv411p -ar 48000 -ac 2",
    "raw.h265": "{v} -c:v libx265 -preset ultrafast -x265-params log-level=none",
    "raw.m2v": "{v} -c:v mpeg2video -bf 2",
    "raw.ivf": "{v} -c:v libvpx -deadline realtime",
    "one.gif": "{v}",
    "one.apng": "{v}",
    "pipe.y4m": "{v} -pix_fmt yuv422p",
    "editor.mov": "{v} {a} -c:v prores_ks -c:a pcm_s24le",
    "cineform.mov": "{v} {a} -c:v cfhd -pix_fmt gbrp12le -c:a pcm_f32le",
}


def record(folder, name):
    """The file of that name; `name` tells what it is made of."""
    words = RECORDINGS[name].format(
        v="-f lavfi -i testsrc2=s=64x48:r=25:d=0.4,gblur=4", a="-f lavfi -i sine=d=0.4:r=48000"
    )
    path = folder / name
    ffmpeg(*words.split(), path)
    return path


def eight_bits(rgb):
    return rgb / (257 if rgb.dtype == np.uint16 else 1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", RECORDINGS)
def test_every_frame_time_and_stream_is_there_or_named(tmp_path, caplog, name, suffix):
    clip, target = record(tmp_path, name), tmp_path / f"out{suffix}"
    with Reader(clip) as reader:
        before = list(reader)
        others = reader.others
    caplog.clear()
    summary = deblur(Identity(), clip, target, progress=False, encoding=FAST)
    with Reader(target) as reader:
        after = list(reader)
    assert summary.frames == len(before) == len(after) > 0
    steps = [
        [(b.pts - a.pts) * a.time_base for a, b in itertools.pairwise(frames)] for frames in (before, after)
    ]
    assert max((abs(a - b) for a, b in zip(*steps, strict=True)), default=0) <= Fraction(1, 1000)
    assert psnr(*(eight_bits(frames[-1].rgb) for frames in (before, after))) > (20 if "gif" in name else 25)
    line = "".join(r.message for r in caplog.records if "does not hold: " in r.message)
    missing = [words for words in others if words in line]
    with av.open(str(clip)) as a, av.open(str(target)) as b:
        # MOV and MP4 store a time code as a track, and write it from the tag.
        coded = [
            any(s.metadata.get("timecode", s.metadata.get("TIMECODE")) for s in c.streams) for c in (a, b)
        ]
        kinds = [[s.type for s in c.streams if s.type != "data"] for c in (a, b)]
    assert coded[0] <= coded[1]
    assert len(kinds[1]) + sum("data" not in words for words in missing) == len(kinds[0])
    assert sum("data" in words for words in others) == coded[0]
