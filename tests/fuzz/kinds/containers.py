"""Video files and pipes, as ``rirn deblur``, ``rirn deblur --benchmark`` and ``rirn compare`` read them."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

from rirn.weights import files as weights_files
from tests.fuzz.kinds.base import Act, Echo, attribute, command, pick, with_input
from tests.fuzz.mutate import damage
from tests.video.clips import picture, write_clip

SIZE = (32, 24)
FRAMES = 5
HEAD = 512

EVEN = {"pts": range(FRAMES), "time_base": Fraction(1, 25)}
CODINGS = {  # by suffix: codec, sample format, and what else the file holds
    "h264.mp4": {"codec": "libx264"},
    "sound.mp4": {"codec": "libx264", "audio": ("aac",)},
    "h264.mkv": {"codec": "libx264", "metadata": {"title": "a clip"}},
    "deep.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p10le"},
    "mpeg4.avi": {"codec": "mpeg4", **EVEN},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "mpeg2.ts": {"codec": "mpeg2video", **EVEN},
}


class Containers:
    def __init__(self, seeds: Path):
        self.files = []
        for suffix, how in CODINGS.items():
            path = seeds / f"clip-{suffix}"
            if not path.exists():
                write_clip(path, FRAMES, *SIZE, **how)
            self.files.append(path)
        self.y4m = seeds / "clip.y4m"
        self.y4m.write_bytes(_y4m())
        self.raw = b"".join(picture(*SIZE, i).tobytes() for i in range(FRAMES))
        self.model = Echo()

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        way = rng.random()
        if way < 0.08:
            size = rng.choice(("32x24", "32x24", "31x24", "1x1", "0x5", "999999x999999"))
            argv = ("deblur", "-", folder / "out" / "frames", "--raw-size", size)
            return self._with_echo(with_input(damage(rng, self.raw), command(*argv)))
        file, content = pick(rng, [*self.files, self.y4m])
        damaged = damage(rng, content, head=HEAD)
        if way < 0.2:
            act = command("deblur", "-", folder / "out" / "frames", "--tile", "off")
            return self._with_echo(with_input(damaged, act))
        source = folder / f"in{file.suffix}"
        source.write_bytes(damaged)
        if way < 0.27:
            return command("compare", source, source, "-o", folder / "out" / "page.html")
        if way < 0.32:
            return self._with_echo(command("deblur", source, "--benchmark"))
        target = folder / "out" / rng.choice(("clip.mp4", "clip.mkv", "frames", "frames"))
        options = rng.choice(((), (), ("--compare",), ("--hdr", "pass")))
        if target.suffix == ".mkv":
            options += ("--codec", "ffv1")
        return self._with_echo(command("deblur", source, target, "--tile", "off", *options))

    def _with_echo(self, act: Act) -> Act:
        def run() -> int | None:
            with attribute(weights_files, "load", lambda name: self.model):
                return act()

        return run


def _y4m() -> bytes:
    width, height = SIZE
    frame = b"FRAME\n" + bytes(range(256)) * (width * height * 3 // 2 // 256)
    frame += bytes(width * height * 3 // 2 - (len(frame) - 6))
    return f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode() + frame * FRAMES
