"""How far an implementation may be from the truth: one table, by op and dtype, and the comparison that reads
it.

The truth is the reference in float64 on the very same (already rounded) inputs. An error is relative to the
largest value of the truth: ``max`` is the worst element, ``rms`` the root mean square over the tensor. A
limit is a small multiple of the worst error seen over all cases of the tests; the seen value stands beside
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SCALE = 1e-2  # tensors whose truth is smaller everywhere are compared as if it reached this value


@dataclass(frozen=True)
class Tolerance:
    """Limits on the relative error of one tensor, each beside the worst that was seen."""

    max: float
    max_seen: float
    rms: float
    rms_seen: float
    reason: str


_ROUND_OFF = "order of operations and the exponential's last bits"
_CANCELLATION = "the exponential's last bits, where the two terms of a single pixel nearly cancel"
_ONE_ROUNDING = "one rounding at the end"
_FACTORS = "the factors of products are rounded"
_EVERY_CONV = "each convolution may round its output"
_KINK = "a rounded activation may fall on the other side of ReLU's kink, which switches its whole gradient"

TABLE = {  # worst seen on x86-64 CPUs
    ("atb_blend", "output", "fp64"): Tolerance(1e-15, 2.1e-16, 5e-16, 8e-17, _ROUND_OFF),
    ("atb_blend", "output", "fp32"): Tolerance(5e-07, 1.2e-07, 2e-07, 4.2e-08, _ROUND_OFF),
    ("atb_blend", "output", "fp16"): Tolerance(0.0005, 0.00034, 0.0002, 5.8e-05, _ONE_ROUNDING),
    ("atb_blend", "output", "bf16"): Tolerance(0.004, 0.0028, 0.002, 0.00051, _ONE_ROUNDING),
    ("atb_blend", "gradient", "fp64"): Tolerance(1e-15, 3.1e-16, 5e-16, 7.3e-17, _ROUND_OFF),
    ("atb_blend", "gradient", "fp32"): Tolerance(1e-06, 2.3e-07, 3e-07, 5.7e-08, _ROUND_OFF),
    ("atb_blend", "gradient", "fp16"): Tolerance(0.0005, 0.00043, 0.0003, 8e-05, _ONE_ROUNDING),
    ("atb_blend", "gradient", "bf16"): Tolerance(0.004, 0.0038, 0.002, 0.0011, _ONE_ROUNDING),
    ("conv3x3_chain", "output", "fp32"): Tolerance(1e-05, 1e-06, 1e-06, 2.1e-07, _ROUND_OFF),
    ("conv3x3_chain", "output", "fp16"): Tolerance(0.0005, 0.00032, 0.0002, 6.2e-05, _ONE_ROUNDING),
    ("conv3x3_chain", "output", "bf16"): Tolerance(0.004, 0.0029, 0.002, 0.00068, _ONE_ROUNDING),
    ("conv3x3_chain", "gradient", "fp32"): Tolerance(1e-05, 1.8e-06, 3e-06, 1e-06, _ROUND_OFF),
    ("conv3x3_chain", "gradient", "fp16"): Tolerance(0.0005, 0.00042, 0.0003, 0.00021, _ONE_ROUNDING),
    ("conv3x3_chain", "gradient", "bf16"): Tolerance(0.0041, 0.0039, 0.0025, 0.002, _ONE_ROUNDING),
    # Products in bfloat16 behind Winograd's transform, which makes factors larger than what they stand for.
    ("conv3x3_chain fast", "output", "fp32"): Tolerance(0.06, 0.027, 0.012, 0.0057, _FACTORS),
    ("conv3x3_chain fast", "output", "fp16"): Tolerance(0.06, 0.024, 0.012, 0.0047, _FACTORS),
    ("conv3x3_chain fast", "output", "bf16"): Tolerance(0.06, 0.022, 0.012, 0.005, _FACTORS),
    ("conv3x3_chain fast", "gradient", "fp32"): Tolerance(0.4, 0.18, 0.2, 0.087, _KINK),
    ("conv3x3_chain fast", "gradient", "bf16"): Tolerance(0.4, 0.23, 0.15, 0.06, _KINK),
    ("conv3x3_chain fast, emulated", "output", "fp32"): Tolerance(
        0.003, 0.0013, 0.0001, 4e-05, "a factor between two roundings falls to one or the other"
    ),
    ("irm_update", "output", "fp64"): Tolerance(5e-15, 7.8e-16, 1e-15, 1.8e-16, _ROUND_OFF),
    ("irm_update", "output", "fp32"): Tolerance(1e-05, 1.1e-06, 1e-06, 1.4e-07, _ROUND_OFF),
    ("irm_update", "output", "fp16"): Tolerance(0.003, 0.00033, 0.0005, 5.6e-05, _EVERY_CONV),
    ("irm_update", "output", "bf16"): Tolerance(0.03, 0.0037, 0.006, 0.00075, _EVERY_CONV),
    ("irm_update", "gradient", "fp64"): Tolerance(1e-14, 1.3e-15, 5e-15, 6.5e-16, _ROUND_OFF),
    ("irm_update", "gradient", "fp32"): Tolerance(1e-05, 1.2e-06, 3e-06, 3.5e-07, _ROUND_OFF),
    ("irm_update", "gradient", "fp16"): Tolerance(0.005, 0.00042, 0.002, 0.00017, _KINK),
    ("irm_update", "gradient", "bf16"): Tolerance(0.04, 0.0034, 0.015, 0.0014, _KINK),
    # Derivatives of all ops, of the first and of higher order, one within another.
    ("torch.func", "gradient", "fp64"): Tolerance(3e-14, 3.8e-15, 4e-15, 4.5e-16, _ROUND_OFF),
    ("torch.func of models", "gradient", "fp64"): Tolerance(9e-15, 7.7e-16, 3e-15, 2.9e-16, _ROUND_OFF),
    # Half precision rounded after every layer, as torch's convolutions do, whose errors are the same.
    ("conv3x3_per_layer", "output", "fp16"): Tolerance(0.003, 0.00047, 0.0005, 0.00014, _EVERY_CONV),
    ("conv3x3_per_layer", "output", "bf16"): Tolerance(0.012, 0.0034, 0.003, 0.0008, _EVERY_CONV),
    ("conv3x3_per_layer", "gradient", "fp16"): Tolerance(0.008, 0.00082, 0.0015, 0.00014, _KINK),
    ("conv3x3_per_layer", "gradient", "bf16"): Tolerance(0.4, 0.21, 0.05, 0.025, _KINK),
    ("conv_epilogue", "output", "fp64"): Tolerance(1e-15, 1.1e-16, 5e-16, 4.2e-17, _ROUND_OFF),
    ("conv_epilogue", "output", "fp32"): Tolerance(5e-07, 7.9e-08, 2e-07, 4.2e-08, _ROUND_OFF),
    ("conv_epilogue", "output", "fp16"): Tolerance(0.0005, 0.00042, 0.0005, 0.00039, _ONE_ROUNDING),
    ("conv_epilogue", "output", "bf16"): Tolerance(0.004, 0.0039, 0.004, 0.0031, _ONE_ROUNDING),
    ("dtb_blend", "output", "fp64"): Tolerance(2e-15, 3.2e-16, 2e-16, 3.4e-17, _ROUND_OFF),
    ("dtb_blend", "output", "fp32"): Tolerance(5e-07, 8.6e-08, 1e-07, 1.4e-08, _ROUND_OFF),
    ("dtb_blend", "output", "fp16"): Tolerance(0.0005, 0.0003, 0.0001, 4.7e-05, _ONE_ROUNDING),
    ("dtb_blend", "output", "bf16"): Tolerance(0.004, 0.0027, 0.001, 0.00047, _ONE_ROUNDING),
    ("dtb_blend", "gradient", "fp64"): Tolerance(5e-15, 9.2e-16, 5e-15, 9.2e-16, _ROUND_OFF),
    ("dtb_blend", "gradient", "fp32"): Tolerance(1e-06, 1.9e-07, 1e-06, 1.9e-07, _ROUND_OFF),
    ("dtb_blend", "gradient", "fp16"): Tolerance(0.0005, 0.00036, 0.0005, 0.00025, _ONE_ROUNDING),
    ("dtb_blend", "gradient", "bf16"): Tolerance(0.004, 0.0029, 0.004, 0.0024, _ONE_ROUNDING),
    ("fac", "output", "fp64"): Tolerance(1e-15, 1.6e-16, 2e-16, 4.2e-17, _ROUND_OFF),
    ("fac", "output", "fp32"): Tolerance(1e-06, 1.9e-07, 1e-06, 1.3e-07, _ROUND_OFF),
    ("fac", "output", "fp16"): Tolerance(0.0005, 0.00036, 0.0002, 7.2e-05, _ONE_ROUNDING),
    ("fac", "output", "bf16"): Tolerance(0.004, 0.0023, 0.002, 0.001, _ONE_ROUNDING),
    ("fac", "gradient", "fp64"): Tolerance(2e-15, 4.4e-16, 5e-16, 9e-17, _ROUND_OFF),
    ("fac", "gradient", "fp32"): Tolerance(1e-06, 1.6e-07, 1e-06, 1.6e-07, _ROUND_OFF),
    ("fac", "gradient", "fp16"): Tolerance(0.0005, 0.00037, 0.0002, 0.0001, _ONE_ROUNDING),
    ("fac", "gradient", "bf16"): Tolerance(0.004, 0.0028, 0.002, 0.00082, _ONE_ROUNDING),
    ("gru_update", "output", "fp64"): Tolerance(2e-15, 3.5e-16, 1e-16, 2.4e-17, _ROUND_OFF),
    ("gru_update", "output", "fp32"): Tolerance(1e-06, 2.2e-07, 1e-06, 2.2e-07, _ROUND_OFF),
    ("gru_update", "output", "fp16"): Tolerance(0.0005, 0.00039, 0.0002, 5.6e-05, _ONE_ROUNDING),
    ("gru_update", "output", "bf16"): Tolerance(0.004, 0.0029, 0.002, 0.00052, _ONE_ROUNDING),
    ("gru_update", "gradient", "fp64"): Tolerance(1e-15, 2.5e-16, 1e-16, 2.4e-17, _ROUND_OFF),
    ("gru_update", "gradient", "fp32"): Tolerance(5e-07, 1.2e-07, 5e-07, 1.2e-07, _ROUND_OFF),
    ("gru_update", "gradient", "fp16"): Tolerance(0.0005, 0.00036, 0.0002, 7.8e-05, _ONE_ROUNDING),
    ("gru_update", "gradient", "bf16"): Tolerance(0.004, 0.0036, 0.002, 0.00099, _ONE_ROUNDING),
    ("lstm_update", "output", "fp64"): Tolerance(2e-15, 2.8e-16, 2e-16, 4.4e-17, _ROUND_OFF),
    ("lstm_update", "output", "fp32"): Tolerance(5e-06, 9.9e-07, 5e-06, 9.9e-07, _CANCELLATION),
    ("lstm_update", "output", "fp16"): Tolerance(0.0005, 0.00035, 0.0002, 6.7e-05, _ONE_ROUNDING),
    ("lstm_update", "output", "bf16"): Tolerance(0.004, 0.0028, 0.002, 0.00054, _ONE_ROUNDING),
    ("lstm_update", "gradient", "fp64"): Tolerance(1e-15, 2.4e-16, 1e-16, 2.1e-17, _ROUND_OFF),
    ("lstm_update", "gradient", "fp32"): Tolerance(1e-06, 1.3e-07, 2e-07, 2.8e-08, _ROUND_OFF),
    ("lstm_update", "gradient", "fp16"): Tolerance(0.0005, 0.00034, 0.0002, 5.7e-05, _ONE_ROUNDING),
    ("lstm_update", "gradient", "bf16"): Tolerance(0.004, 0.003, 0.001, 0.00048, _ONE_ROUNDING),
    ("resize", "output", "fp32"): Tolerance(5e-07, 6.5e-08, 2e-07, 3e-08, _ROUND_OFF),
}

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def row_of(op: str, backend: str, dtype: str) -> str:
    """Return the name under which the limits of a run of convolutions stand: some backends round half precision
    after every layer."""
    return "conv3x3_per_layer" if backend in ("cuda", "triton") and dtype in ("fp16", "bf16") else op


def errors(got: Tensor, truth: Tensor, terms: Tensor | None = None) -> tuple[float, float]:
    """Return the largest and the root-mean-square error of ``got``, relative to the largest value of
    ``truth``.

    ``terms`` holds the sum of the absolute values of the terms that ``truth`` is a sum of. Where given, its
    largest value is the scale: terms that cancel leave their rounding behind, which in a tensor of a few
    values would look large.

    Anything in ``got`` that is not finite counts as infinitely wrong: ``max`` over a NaN would drop it.
    """
    assert got.shape == truth.shape, f"shape {list(got.shape)} where {list(truth.shape)} is expected"
    if got.numel() == 0:
        return 0.0, 0.0
    difference = (got.detach().double() - truth.detach().double()).abs()
    difference = torch.where(difference.isfinite(), difference, torch.inf)
    values = truth if terms is None else terms
    scale = max(values.detach().double().abs().max().item(), SMALLEST_SCALE)
    return difference.max().item() / scale, difference.square().mean().sqrt().item() / scale


def assert_close(
    got: Tensor, truth: Tensor, tolerance: Tolerance, what: str = "value", terms: Tensor | None = None
) -> None:
    """Raise AssertionError unless both :func:`errors` of ``got`` are within the tolerance."""
    worst, rms = errors(got, truth, terms)
    assert worst <= tolerance.max, (
        f"{what}: max error {worst:.3g} is over {tolerance.max:.3g} ({tolerance.reason})"
    )
    assert rms <= tolerance.rms, (
        f"{what}: rms error {rms:.3g} is over {tolerance.rms:.3g} ({tolerance.reason})"
    )
