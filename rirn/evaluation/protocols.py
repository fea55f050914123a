"""How a set is scored: what one protocol calls PSNR is not what another calls so, and the difference is up to a decibel."""

from __future__ import annotations

import dataclasses

from rirn.errors import RirnError

_METRICS = (
    "RGB, whole frames at the size they have on disk, no alignment; PSNR: 10 log10(255^2 / MSE) in dB; SSIM: scikit-image, "
    "Gaussian 11x11 window of sigma 1.5, K1 0.01, K2 0.03, biased covariance, valid region, mean over pixels and channels"
)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which frames a model sees together, which are scored, and how they become 8 bits."""

    name: str
    definition: str
    """In one sentence, for people."""
    window: int | None = None
    """Frames after which the state starts afresh; None: a sequence is run whole."""
    margin: int = 0
    """Frames at either end of a window, and so of a sequence, that are not scored; windows overlap by twice as many."""
    truncates: bool = False
    """Cut the fraction off instead of rounding to 8 bits."""

    def windows(self, frames: int) -> list[tuple[int, int]]:
        """First and end of each window of a sequence; the last one is moved back to end with the sequence.

        Raises:
            RirnError: the sequence is so short that no frame of it is scored.
        """
        if frames <= 2 * self.margin:
            raise RirnError(
                f"protocol {self.name} leaves out {self.margin} frames at either end, and the sequence has only {frames}; "
                "leave it out or use the protocol rirn"
            )
        if self.window is None or frames <= self.window:
            return [(0, frames)]
        step = self.window - 2 * self.margin
        firsts = [*range(0, frames - self.window, step), frames - self.window]
        return [(first, first + self.window) for first in firsts]

    def scored(self, frames: int) -> list[tuple[tuple[int, int], range]]:
        """Each window, and the frames whose restoration from it counts: each frame once, from the first window it is in."""
        done, result = self.margin, []
        for first, end in self.windows(frames):
            result.append(((first, end), range(max(done, first + self.margin), end - self.margin)))
            done = end - self.margin
        return result


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "rirn",
            "each sequence whole, state zero at its first frame and never reset, all frames scored, outputs clamped and rounded "
            f"to 8 bits; {_METRICS}",
        ),
        Protocol(
            "estrnn",
            "windows of 20 frames, state zero at the first of each, that overlap by 4, the last moved back to the end of the "
            "sequence; first 2 and last 2 frames of a sequence left out, each other frame scored once, in the first window that "
            "has it 2 frames from its ends; outputs clamped and truncated to 8 bits (its authors scored a 960x540 copy of "
            f"GOPRO); {_METRICS}",
            window=20,
            margin=2,
            truncates=True,
        ),
    )
}
"""``rirn``: nearest to the public code of its authors' group. ``estrnn``: the test code of zzh-tech/ESTRNN."""
