"""The programs ffmpeg and ffprobe for tests: the one comes in a wheel, the other is what PyAV says in its words."""

import hashlib
import os
import shutil
import subprocess

import av
import imageio_ffmpeg

FFMPEG = shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()

_RANGES = {1: "tv", 2: "pc"}
_MATRICES = {0: "gbr", 1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc"}


def ffmpeg(*arguments):
    subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


def environment():
    """Variables under which `ffmpeg` is a program that a shell finds."""
    folder = os.path.dirname(FFMPEG)
    if os.path.basename(FFMPEG) != "ffmpeg":  # the wheel puts its version into the name
        link = os.path.join(folder, "ffmpeg")
        if not os.path.exists(link):
            os.symlink(FFMPEG, link)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def ffprobe(path):
    """Streams, chapters and format of a file, under the names that ffprobe gives to them."""
    with av.open(str(path)) as container:
        about = {
            "streams": [_stream(stream) for stream in container.streams],
            "chapters": [
                {
                    "start_time": float(c["start"] * c["time_base"]),
                    "end_time": float(c["end"] * c["time_base"]),
                    "tags": c["metadata"],
                }
                for c in container.chapters()
            ],
            "format": {
                "duration": (container.duration or 0) / av.time_base,
                "tags": {k.lower(): v for k, v in container.metadata.items()},
            },
        }
    with av.open(str(path)) as container:
        for stream, facts in zip(container.streams, about["streams"], strict=True):
            if stream.type == "video" and stream.codec_context is not None:
                container.seek(0)
                facts["rotation"] = next(container.decode(stream)).rotation
                container.seek(0)
                facts["nb_read_frames"] = sum(1 for _ in container.decode(stream))
    return about


def _stream(stream):
    context = stream.codec_context
    facts = {
        "codec_type": stream.type,
        "codec_name": context.codec.canonical_name if context is not None else None,
        "codec_tag_string": getattr(context, "codec_tag", None),
        "disposition": int(stream.disposition),
        "time_base": stream.time_base,
        "nb_frames": str(stream.frames),
        "tags": {k.lower(): v for k, v in stream.metadata.items()},
    }
    if stream.type == "video" and context is not None:
        facts |= {
            "width": context.width,
            "height": context.height,
            "pix_fmt": context.pix_fmt,
            "sample_aspect_ratio": context.sample_aspect_ratio,
            "color_range": _RANGES.get(int(context.color_range)),
            "color_space": _MATRICES.get(int(context.colorspace)),
            "color_transfer": int(context.color_trc),
            "color_primaries": int(context.color_primaries),
        }
    return facts


def packets(path, index):
    """(time in seconds, duration in seconds, digest) of each packet of a stream."""
    with av.open(str(path)) as container:
        return [
            (
                None if p.pts is None else p.pts * p.time_base,
                (p.duration or 0) * p.time_base,
                hashlib.md5(bytes(p)).hexdigest(),
            )
            for p in container.demux(container.streams[index])
            if p.size
        ]
