"""Options that decide how a video is restored, checked once, before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from rirn.errors import RirnError
from rirn.video.cut import ALL, Cut
from rirn.video.encoding import Encoding
from rirn.video.frames import checked_rate, checked_size

if TYPE_CHECKING:
    import torch

# Tiles begin at multiples of this, so that states at half and quarter resolution can be cut and joined.
ALIGN = 16
SMALLEST = 64
STRONGEST = 1.5
DTYPES = ("auto", "fp32", "fast", "bf16", "fp16")
PROGRESS = ("bar", "json", "off")


@dataclass(frozen=True)
class Options:
    """How ``deblur`` works, the same for every video of a run.

    Args:
        device: where the network runs.
        dtype: "auto", "fp32", "fast", "bf16" or "fp16", see ``rirn.video.restore.resolved_dtype``.
        strength: factor on the difference to the input, 0 to 1.5; values other than 1 for residual networks only.
        compare: write input and result side by side instead of only the result.
        progress: "bar" on stderr if that is a terminal, and an estimate of a long run; "json" for one line per
            second; "off".
        encoding: encoder and options; by default what plays everywhere.
        rate: frames per second of a folder of images, or of raw frames.
        raw_size: (width, height) of raw frames on the standard input.
        tile: "auto", a side in pixels, or None for whole frames, see ``Tiled``.
        scene_reset: reset the state at a scene cut.
        resume: continue what an interrupted run with the same settings left, if anything.
        hdr: "refuse", or "pass" to restore the code values of an HDR video as if they were SDR.
        deinterlace: deinterlace the pictures first (bwdif).
        keep_times: give the result the modification time of its source file, if that is restored whole.
        cut: the part to restore, see ``Cut``; sound and subtitles are cut to match.

    Raises:
        RirnError: a value is not possible.
    """

    device: str | torch.device = "cpu"
    dtype: str = "auto"
    strength: float = 1.0
    compare: bool = False
    progress: str | bool = "bar"
    encoding: Encoding = field(default_factory=Encoding)
    rate: Fraction | int = 25
    raw_size: tuple[int, int] | None = None
    tile: int | str | None = "auto"
    scene_reset: bool = True
    resume: bool = False
    hdr: str = "refuse"
    deinterlace: bool = False
    keep_times: bool = True
    cut: Cut = ALL

    def __post_init__(self) -> None:
        if isinstance(self.progress, bool):
            object.__setattr__(self, "progress", "bar" if self.progress else "off")
        if self.progress not in PROGRESS:
            raise RirnError(f"'{self.progress}' is no way to show progress; use {', '.join(PROGRESS)}")
        checked_dtype(self.dtype)
        checked_strength(self.strength)
        checked_tile(self.tile)
        checked_rate(self.rate)
        if self.raw_size is not None:
            checked_size(self.raw_size)
        if self.hdr not in ("refuse", "pass"):
            raise RirnError(f"'{self.hdr}' is no way to treat HDR; use refuse or pass")

    @cached_property
    def chosen_device(self) -> torch.device:
        """The device that ``device`` names.

        Raises:
            RirnError: there is no such device.
        """
        from rirn.devices import pick_device  # torch takes seconds to import

        return pick_device(self.device)

    @cached_property
    def chosen_dtype(self) -> str:
        """``dtype`` resolved for the device: "fp32", "fast", "bf16" or "fp16"."""
        from rirn.video.restore import resolved_dtype

        return resolved_dtype(self.dtype, self.chosen_device)

    def settings(self) -> dict[str, object]:
        """Return what decides the frames and how they are stored, as plain values by name."""
        settings: dict[str, object] = {
            "device": self.chosen_device.type,
            "dtype": self.chosen_dtype,
            "tile": self.tile,
            "scene_reset": self.scene_reset,
            "compare": self.compare,
            "rate": str(Fraction(self.rate)),
            **self.cut.settings(),
        }
        if self.strength != 1:
            settings["strength"] = self.strength
        if self.deinterlace:
            settings["deinterlace"] = True
        return settings


def checked_dtype(name: str) -> str:
    """Return the name of a number format.

    Raises:
        RirnError: the name is unknown.
    """
    if name not in DTYPES:
        raise RirnError(f"'{name}' is no number format; use {', '.join(DTYPES)}")
    return name


def checked_strength(strength: float) -> float:
    """Return a factor on what a network adds to its input.

    Raises:
        RirnError: it is not between 0 and 1.5.
    """
    if not 0 <= strength <= STRONGEST:
        raise RirnError(f"The strength must lie between 0 and {STRONGEST}; got {strength}")
    return strength


def checked_tile(tile: int | str | None) -> int | str | None:
    """Return the side of tiles in pixels, "auto", or None for whole frames.

    Raises:
        RirnError: it is something else.
    """
    is_side = isinstance(tile, int) and not isinstance(tile, bool) and tile >= SMALLEST and not tile % ALIGN
    if not is_side and tile not in ("auto", None):
        raise RirnError(
            f"A tile of {tile} pixels is not possible; use auto, off, or a multiple of {ALIGN} of at least {SMALLEST}"
        )
    return tile
