"""``rirn demo``: the main job, from a blurry video to a sharp one, on material that comes with other packages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rirn.data import list_images, read_image, shake_photo, write_png, write_sequence
from rirn.errors import RirnError
from rirn.evaluation import psnr, ssim
from rirn.video import Reader, deblur
from rirn.weights import load

SIZE = (288, 384)
FRAMES = 24
SEED = 4
CROP = (136, 216)
MARKER = ".rirn-demo"
"""File in the folder of the shaken photo: the next demo may replace the folder."""


def run(out: Path, clip: Path | None, model_name: str) -> None:
    """Restore a shaken photo with known truth and, if given, a real video; write videos and pictures below ``out``.

    Raises:
        RirnError: scikit-image is not installed, something cannot be read or written, or ``out/shaken`` is there and not of an
            earlier demo.
    """
    shaken = out / "shaken"
    if shaken.exists() and not (shaken / MARKER).is_file():
        raise RirnError(
            f"{shaken} is there already and not of an earlier demo; give another --out, or move it"
        )
    model = load(model_name)
    out.mkdir(parents=True, exist_ok=True)
    print(
        f"[1/2] a photo seen by a shaking camera: {FRAMES} frames of {SIZE[1]}x{SIZE[0]}, the sharp truth is known"
    )
    _restore_shaken_photo(model, shaken)
    if clip is None:
        print("[2/2] left out: give a real video with --clip")
        return
    print(f"[2/2] a real video: {clip}")
    _restore_video(model, clip, out)


def _restore_shaken_photo(model, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / MARKER).touch()
    pairs = shake_photo(_photo(), np.random.default_rng(SEED), size=SIZE, frames=FRAMES)
    write_sequence(folder, pairs)
    deblur(model, folder / "blur", folder / "restored")
    views = {
        name: [read_image(p) for p in list_images(folder / name)] for name in ("blur", "restored", "sharp")
    }
    figures = {}
    for name in ("blur", "restored"):
        rows = [(psnr(a, b), ssim(a, b)) for a, b in zip(views[name], views["sharp"], strict=True)]
        figures[name] = np.mean(rows, axis=0)
    before, after = figures["blur"], figures["restored"]
    print(f"      blurry   {before[0]:.2f} dB PSNR, {before[1]:.4f} SSIM (mean of {FRAMES} frames)")
    print(f"      restored {after[0]:.2f} dB PSNR, {after[1]:.4f} SSIM: {after[0] - before[0]:+.2f} dB")
    # The frame in the middle of the blur's strength, so that the picture is neither the best nor the worst case.
    strength = [psnr(a, b) for a, b in zip(views["blur"], views["sharp"], strict=True)]
    middle = int(np.argsort(strength)[FRAMES // 2])
    path = folder.with_name("shaken_before_after.png")
    rows = [
        [
            (label, views[name][middle])
            for label, name in (("blurry", "blur"), ("restored", "restored"), ("truth", "sharp"))
        ]
    ]
    write_png(path, contact_sheet(rows))
    print(f"      frames in {folder}, picture {path}")


def _restore_video(model, clip: Path, out: Path) -> None:
    target = out / f"{clip.stem}_restored.mp4"
    summary = deblur(model, clip, target)
    print(
        f"      {summary.frames} frames of {summary.width}x{summary.height} at {summary.fps:.1f} frames/s -> {target}"
    )
    rows = []
    for index, before, after in _most_changed(clip, target, count=3):
        y, x = _busiest_crop(before, after)
        cut = (slice(y, y + CROP[0]), slice(x, x + CROP[1]))
        scale = (2, 2, 1)
        rows.append([(f"frame {index}, input", np.kron(before[cut], np.ones(scale, np.uint8)))])
        rows[-1].append((f"frame {index}, restored", np.kron(after[cut], np.ones(scale, np.uint8))))
    path = out / f"{clip.stem}_before_after.png"
    write_png(path, contact_sheet(rows))
    print(f"      the three places that changed most, twice enlarged: {path}")


def _photo() -> np.ndarray:
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise RirnError(
            "the demo needs scikit-image for its photo and for SSIM: pip install 'rirn[eval]'"
        ) from error
    return data.astronaut()


def _frames(path: Path) -> Iterator[np.ndarray]:
    with Reader(path) as reader:
        for frame in reader:
            yield frame.rgb


def _most_changed(before: Path, after: Path, count: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """The frames that the restoration changed most, at least half a second (12 frames) from each other, in order of time."""
    change = [float(_difference(a, b).mean()) for a, b in zip(_frames(before), _frames(after), strict=True)]
    chosen: list[int] = []
    for index in np.argsort(change)[::-1].tolist():
        if len(chosen) < count and all(abs(index - other) >= 12 for other in chosen):
            chosen.append(index)
    pairs = zip(_frames(before), _frames(after), strict=True)
    return [(i, a, b) for i, (a, b) in enumerate(pairs) if i in chosen]


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(np.float32) - b).mean(2)


def _busiest_crop(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Top left corner of the crop of size CROP that changed most."""
    integral = np.pad(_difference(before, after).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows, columns = min(CROP[0], before.shape[0]), min(CROP[1], before.shape[1])
    total = (
        integral[rows:, columns:]
        - integral[:-rows, columns:]
        - integral[rows:, :-columns]
        + integral[:-rows, :-columns]
    )
    y, x = np.unravel_index(int(total.argmax()), total.shape)
    return int(y), int(x)


def contact_sheet(rows: list[list[tuple[str, np.ndarray]]], gap: int = 6) -> np.ndarray:
    """Labelled pictures, uint8 [H, W, 3], in rows, as one picture; all pictures of a row have one height."""
    text = 22
    width = max(sum(image.shape[1] + gap for _, image in row) for row in rows) + gap
    height = sum(row[0][1].shape[0] + text + gap for row in rows) + gap
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    y = gap
    for row in rows:
        x = gap
        for label, image in row:
            draw.text((x, y), label, fill=(0, 0, 0), font=font)
            sheet.paste(Image.fromarray(image), (x, y + text))
            x += image.shape[1] + gap
        y += row[0][1].shape[0] + text + gap
    return np.asarray(sheet)
