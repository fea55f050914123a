"""Photos with their EXIF data, alone and in folders with other things, as ``rirn deblur`` restores them one by one."""

from __future__ import annotations

import os
import random
from pathlib import Path

from PIL import Image

from rirn.weights import files as weights_files
from tests.fuzz.kinds.base import Act, Echo, attribute, command
from tests.fuzz.mutate import damage
from tests.video.clips import picture, write_clip

SUFFIXES = (".jpg", ".png", ".tif", ".webp", ".bmp", ".ppm", ".gif", ".jp2", ".tga")
HEAD = 512
NAMES = ("a", "b 1", "0", "-x", "ä", ".hidden", "a.b", "%d", "-")


class Photos:
    def __init__(self, seeds: Path):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x9003] = 6, "maker", "2022:11:09 20:36:38"
        self.files = []
        for number, suffix in enumerate(SUFFIXES):
            image = Image.fromarray(picture(32, 24, number)).convert("RGBA" if suffix == ".png" else "RGB")
            image.save(seeds / f"photo{suffix}", exif=exif.tobytes())
            self.files.append(seeds / f"photo{suffix}")
        self.files.append(write_clip(seeds / "clip.mp4", 2, 32, 24))
        self.model = Echo()

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        source = folder / "in"
        source.mkdir()
        for name in rng.sample(NAMES, rng.randint(1, 4)):
            self._put(rng, source, name)
        if rng.random() < 0.4:
            (file,) = rng.sample(sorted(source.rglob("*")), 1)
            target = folder / "out" / f"sharp{rng.choice((file.suffix, *SUFFIXES))}"
            return self._with_echo(command("deblur", file, target, "--tile", "off"))
        options = rng.choice(
            ((), ("--photos",), ("--recursive",), ("--photos", "--recursive"), ("--compare",))
        )
        return self._with_echo(command("deblur", source, folder / "out" / "sharp", "--tile", "off", *options))

    def _put(self, rng: random.Random, source: Path, name: str) -> None:
        """A photo or a clip, whole or damaged, or something that is neither."""
        file, deed = rng.choice(self.files), rng.random()
        path = source / f"{name}{file.suffix if rng.random() < 0.8 else rng.choice(SUFFIXES)}"
        if deed < 0.4:
            path.write_bytes(file.read_bytes())
        elif deed < 0.8:
            path.write_bytes(damage(rng, file.read_bytes(), head=HEAD))
        elif deed < 0.85:
            path.symlink_to(rng.choice(("nowhere", path.name, ".")))
        elif deed < 0.9:
            path.mkdir()
            (path / file.name).write_bytes(file.read_bytes())
        elif deed < 0.95:
            (source / f"{name}.txt").write_text("no photo")
        else:
            os.mkfifo(path) if rng.random() < 0.2 else path.touch()

    def _with_echo(self, act: Act) -> Act:
        def run() -> int | None:
            with attribute(weights_files, "load", lambda name: self.model):
                return act()

        return run
