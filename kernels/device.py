"""Device functions that several Triton kernels share: addresses of a tile, wide loads, gates."""

from __future__ import annotations

from rirn.kernels import jit, tl


@jit
def load(pointer, at, mask, WIDE: tl.constexpr):
    """Read values and widen them: bfloat16 has no arithmetic of its own worth using."""
    return tl.load(pointer + at, mask=mask, other=0.0).to(WIDE)


@jit
def store(pointer, at, value, mask):
    """Round values to the type of the tensor and write them."""
    tl.store(pointer + at, value.to(pointer.dtype.element_ty), mask=mask)


@jit
def pixel_tile(pixels, BLOCK_P: tl.constexpr):
    """Return which image [scalar] and which of its pixels [BLOCK_P, 1] this program has, and which of them
    are there."""
    blocks = (pixels - 1) // BLOCK_P + 1  # cdiv wraps just below 2^31 pixels
    image = tl.program_id(0) // blocks
    i_p = (tl.program_id(0) - image * blocks).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    return image.to(tl.int64), i_p, i_p < pixels


@jit
def channel_run(image, i_p, is_pixel, start, channels, pixels, PLANAR: tl.constexpr, BLOCK_C: tl.constexpr):
    """Return offsets and mask [BLOCK_P, BLOCK_C] of the channels from ``start`` on, in [N, C, P] or, unless
    PLANAR, [N, P, C] order."""
    i_c = start + tl.arange(0, BLOCK_C)[None, :].to(tl.int64)
    at = image * channels * pixels + (i_c * pixels + i_p if PLANAR else i_p * channels + i_c)
    return at, is_pixel & (i_c < channels)


@jit
def tanh(x):
    """The hyperbolic tangent, exact to the last bits near zero too, where 1 - 2 / (exp(2x) + 1) cancels.

    The rational function is that of Cephes (tanh.c), for abs(x) < 0.625.
    """
    size = tl.abs(x)
    square = x * x
    p = (-9.64399179425052238628e-1 * square - 9.92877231001918586564e1) * square - 1.61468768441708447952e3
    q = ((square + 1.12811678491632931402e2) * square + 2.23548839060100448583e3) * square
    near = x + x * square * (p / (q + 4.84406305325125486048e3))
    far = 1 - 2 / (tl.exp(2 * size) + 1)
    return tl.where(size < 0.625, near, tl.where(x < 0, -far, far))
