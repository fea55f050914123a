"""Folders of images: data sets for ``rirn data check`` and training, clips for ``rirn deblur``."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from rirn.data import find_sequences
from rirn.data.clips import ClipDataset
from rirn.weights import files as weights_files
from tests.data.layouts import bsd, dvd, gopro, reds
from tests.fuzz.kinds.base import Act, Echo, attribute, command
from tests.fuzz.mutate import damage

NAMES = (
    "x",
    "1",
    "\u00b2",
    "\u0663",
    "zwei Worte",
    "zwei\nZeilen",
    "9" * 200,
    "9" * 5 + ".png",
    "a.b.png",
    "-1.png",
    "%d.png",
    ".png",
    "blur",
    "sharp",
    "train_blur",
    "train_sharp",
    "RGB",
    "GT",
    "A" * 250,
    "\udcff\udcfe",
    "\x1b[31m.png",
)


class Datasets:
    def __init__(self, seeds: Path):
        self.roots = [seeds / name for name in ("gopro", "reds", "dvd", "bsd", "formats")]
        if not self.roots[-1].exists():
            gopro(self.roots[0], ["train/GOPR0372_07_00", "test/GOPR0384_11_00"])
            reds(self.roots[1], "train", ["000", "001"], frames=2)
            dvd(self.roots[2], {"quantitative_datasets/a": (8, 6), "quantitative_datasets/b": (6, 8)})
            bsd(self.roots[3], ["BSD_1ms8ms/train/000", "BSD_1ms8ms/test/111"])
            self._formats(self.roots[4])
        self.model = Echo()

    @staticmethod
    def _formats(root: Path) -> None:
        from PIL import Image

        for half in ("blur", "sharp"):
            folder = root / half
            folder.mkdir(parents=True)
            for i, suffix in enumerate((".png", ".jpg", ".tif", ".bmp", ".ppm", ".webp")):
                Image.new("RGB", (8, 6), (i, 40 * i, 255 - i)).save(folder / f"{i}{suffix}")
            Image.new("I;16", (8, 6), 40000).save(folder / "7.png")

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        root = folder / "in"
        shutil.copytree(rng.choice(self.roots), root)
        for _ in range(rng.randint(1, 4)):
            _change(rng, root, folder)
        way = rng.random()
        if way < 0.5:
            options = rng.choice(((), ("--headers-only",), ("--blur", "blur"), ("--blur", "..")))
            return command("data", "check", root, "--workers", 1, *options)
        if way < 0.8:
            return lambda: _clip(root)
        folders = sorted(p for p in (root, *root.rglob("*")) if p.is_dir() and not p.is_symlink())
        source = rng.choice(folders)
        act = command("deblur", source, folder / "out" / rng.choice(("a.mp4", "frames")), "--tile", "off")

        def run() -> int | None:
            with attribute(weights_files, "load", lambda name: self.model):
                return act()

        return run


def _clip(root: Path) -> None:
    """The first clip of the sequences, as training reads it."""
    ClipDataset(find_sequences(root), frames=2, crop=4, seed=0, cache_mib=1)[0]


def _change(rng: random.Random, root: Path, folder: Path) -> None:
    """One file or folder renamed, gone, damaged, doubled, or replaced by something else."""
    everything = sorted(root.rglob("*"))
    if not everything:
        return
    path = rng.choice(everything)
    if rng.random() < 0.4:
        path = rng.choice([p for p in everything if p.is_file() and not p.is_symlink()] or [path])
    deed = rng.randrange(9)
    other = path.with_name(rng.choice(NAMES))
    if deed == 0 and not other.exists() and not other.is_symlink():
        path.rename(other)
    elif deed == 1 and not other.exists() and not other.is_symlink() and path.is_file():
        shutil.copy(path, other)
    elif deed == 2:
        _remove(path)
    elif deed == 3 and path.is_dir():
        _remove(path)
        path.write_bytes(b"no folder")
    elif deed == 4:
        _remove(path)
        path.symlink_to(rng.choice((root, path.parent, path, folder / "nowhere", Path("/dev/null"))))
    elif deed == 5 and path.is_file():
        _remove(path)
        path.mkdir()
    elif path.is_file() and not path.is_symlink():
        path.write_bytes(damage(rng, path.read_bytes() or b"0", head=64))


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
