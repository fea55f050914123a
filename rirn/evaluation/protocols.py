"""How a data set is scored: protocols differ in what they call PSNR, by up to a decibel."""

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
    """One sentence for people."""
    window: int | None = None
    """Frames after which the state is reset; None: a sequence is run whole."""
    leaves_ends: bool = False
    """Frames that lack a neighbour which the network reads are not scored from that window; windows overlap by that
    many frames."""
    truncates: bool = False
    """Truncate instead of rounding to 8 bits."""

    def windows(self, frames: int, past: int = 0, future: int = 0) -> list[tuple[int, int]]:
        """Return first and end of each window of a sequence; the last one is moved back to end with the sequence.

        Args:
            frames: number of frames in the sequence.
            past: frames that the network reads before the one to restore.
            future: frames that it reads after it.

        Raises:
            RirnError: the sequence is so short that none of its frames is scored.
        """
        overlap = past + future if self.leaves_ends else 0
        if frames <= overlap:
            raise RirnError(
                f"protocol {self.name} leaves out the first {past} and the last {future} frames, and the sequence has only "
                f"{frames}; leave it out or use the protocol rirn"
            )
        if self.window is None or frames <= self.window:
            return [(0, frames)]
        if overlap >= self.window:
            raise RirnError(
                f"protocol {self.name} has windows of {self.window} frames, too short for a network that reads {past} before "
                f"and {future} after each; use the protocol rirn"
            )
        firsts = [*range(0, frames - self.window, self.window - overlap), frames - self.window]
        return [(first, first + self.window) for first in firsts]

    def scored(self, frames: int, past: int = 0, future: int = 0) -> list[tuple[tuple[int, int], range]]:
        """Return each window with the frames that are scored from it: each frame once, from the first window that it is in.

        Arguments and errors are those of :meth:`windows`.
        """
        before, after = (past, future) if self.leaves_ends else (0, 0)
        done, result = before, []
        for first, end in self.windows(frames, past, future):
            result.append(((first, end), range(max(done, first + before), end - after)))
            done = end - after
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
            "windows of 20 frames, state zero at the first of each, the last moved back to the end of the sequence; a frame is "
            "scored once, in the first window that has all frames around it that the network reads, so that windows overlap by "
            "these and the ends of a sequence are left out (of ESTRNN and STRCNN 4 and 2, of IFI-RNN none); outputs clamped and "
            f"truncated to 8 bits (its authors scored a 960x540 copy of GOPRO); {_METRICS}",
            window=20,
            leaves_ends=True,
            truncates=True,
        ),
    )
}
"""``rirn``: closest to the public code of its authors' group. ``estrnn``: the test code of zzh-tech/ESTRNN."""
