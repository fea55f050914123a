"""Scores as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from rirn.evaluation.evaluate import Score, frame_mean, sequence_mean
from rirn.evaluation.protocols import Protocol
from rirn.version import __version__

FIELDS = ("psnr_in", "psnr_out", "ssim_in", "ssim_out")


def format_table(scores: Sequence[Score], model: str, protocol: Protocol) -> str:
    """Format a row per sequence, then the blurry input and the model by both kinds of mean, then what the numbers mean."""
    width = max(32, *(len(s.sequence) for s in scores))
    lines = [f"{'sequence':{width}s} frames  PSNR in    out   gain   SSIM in    out"]
    for s in scores:
        lines.append(
            f"{s.sequence:{width}s} {s.frames:6d}  {s.psnr_in:7.2f} {s.psnr_out:6.2f} {s.psnr_out - s.psnr_in:+6.2f}"
            f"    {s.ssim_in:.4f} {s.ssim_out:.4f}"
        )
    means = {
        f"mean over all {sum(s.frames for s in scores)} frames": frame_mean,
        f"mean over {len(scores)} sequences": sequence_mean,
    }
    for label, mean in means.items():
        lines += ["", f"{label:{width}s}   PSNR   SSIM"]
        for name, end in (("blurry input", "in"), (model, "out")):
            psnr, ssim = (mean(scores, f"{metric}_{end}") for metric in ("psnr", "ssim"))
            lines.append(f"{name:{width}s} {psnr:6.2f} {ssim:.4f}")
    lines += ["", *textwrap.wrap(f"protocol {protocol.name}: {protocol.definition}", 110)]
    return "\n".join(lines)


def to_json(scores: Sequence[Score], model: str, protocol: Protocol, data: Sequence[str]) -> dict[str, Any]:
    """Return everything in the table and the scores of each frame; the PSNR of equal images, infinite, is null."""
    content = {
        "rirn": __version__,
        "model": model,
        "data": list(data),
        "protocol": protocol.name,
        "definition": protocol.definition,
        "mean_over_frames": {field: frame_mean(scores, field) for field in FIELDS},
        "mean_over_sequences": {field: sequence_mean(scores, field) for field in FIELDS},
        "sequences": [dataclasses.asdict(score) for score in scores],
    }
    return finite(content)


def finite(value: Any) -> Any:
    """Replace non-finite numbers, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
