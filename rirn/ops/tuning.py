"""What ``auto`` chooses on a GPU: which implementation of an op with convolutions takes a call, by precision and width.

Limits from operation counts hold until ``rirn bench --tune`` has measured the GPU; its file is read when the first op runs.
"""

from __future__ import annotations

import functools
import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rirn.errors import RirnError
from rirn.ops._call import HALF_DTYPES
from rirn.ops.backends import why_not

ENVIRONMENT_VARIABLE = "RIRN_TUNING"

FORMS = ("cuda", "triton", "library")
PRECISIONS = ("half", "float32", "tf32")

OURS = "ours"
"""The first of ``cuda`` and ``triton`` that can run."""

WIDE = "torch's convolutions of this width are faster in this precision"

Step = tuple[int, str]
"""A number of channels, and the implementation for calls of up to that many; calls above the last step go to torch."""
Steps = tuple[Step, ...]
Table = dict[str, dict[str, Steps]]
"""Steps by op and precision; without an entry, calls go to torch."""

COUNTED: Table = {
    "conv3x3_chain": {"half": ((64, OURS),)},
    "irm_update": {"half": ((32, OURS),), "float32": ((32, OURS),)},
    "atb_update": {"half": ((512, OURS),)},
}
"""Counted, not measured: a layer of c channels does 4.5 c operations per byte moved, and an H100 does 295 in half precision
per byte (989 TFLOP/s, 3.35 TB/s). Up to 65 channels a layer is bound by memory, and the kernels, which have the bias, the
activation and the sum in their epilogues, move 5 images for a residual block where torch's separate steps move 9;
beyond that it is bound by arithmetic, for which torch's kernels are tuned. ``irm_update`` has layers of twice its
channels. In float32 the kernels compute exact products, and TF32 tensor cores are many times faster."""


def path() -> Path:
    """Return the file of measured steps: ``RIRN_TUNING``, or ``rirn/tuning.json`` in the user's cache folder."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "rirn" / "tuning.json"


def tuned(op: str, first: Tensor, width: int, backend: str) -> str:
    """Return the implementation that takes a call under ``auto`` on a GPU.

    Args:
        op: one of :data:`COUNTED`.
        first: a tensor of the call, for its device and dtype.
        width: channels, as the steps count them.
        backend: the first of our backends that can run.

    Returns:
        ``cuda``, ``triton`` or ``library``.
    """
    for most, form in _steps_of(op, first.device, first.dtype):
        if width <= most:
            return backend if form == OURS else form
    return "library"


def _steps_of(op: str, device: torch.device, dtype: torch.dtype) -> Steps:
    return _steps(op, device, precision(dtype))


def precision(dtype: torch.dtype) -> str:
    """Return ``half``, ``float32``, ``tf32`` (float32 where torch lets cuDNN's convolutions round the factors) or ``float64``."""
    if dtype in HALF_DTYPES:
        return "half"
    if dtype != torch.float32:
        return "float64"
    found = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return "tf32" if found == "tf32" else "float32"


# A constant for torch.compile, see rirn.ops.backends: a compiled model keeps what it was compiled with.
_steps_of._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _steps(op: str, device: torch.device, kind: str) -> Steps:
    # Steps measured with another build of rirn may name an implementation that this one cannot run.
    found = measured(device).get(op, {}).get(kind, COUNTED[op].get(kind, ()))
    lacking = {form for form in ("cuda", "triton") if why_not(form, op, device) is not None}
    return tuple((most, OURS if form in lacking else form) for most, form in found)


@functools.cache
def measured(device: torch.device) -> Table:
    """Return what was measured on this model of GPU; nothing if there is no measurement or no GPU."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return {}
    try:
        return read(path()).get(torch.cuda.get_device_name(device), {})
    except RirnError as error:
        warnings.warn(f"{error}; counted limits hold", stacklevel=2)
        return {}


def read(file: Path) -> dict[str, Table]:
    """Read steps by GPU name, op and precision; none if there is no such file.

    Raises:
        RirnError: the file is not one that :func:`write` wrote.
    """
    try:
        found = json.loads(file.read_text()) if file.exists() else {}
        return {
            gpu: {op: {kind: _checked(op, kind, s) for kind, s in kinds.items()} for op, kinds in ops.items()}
            for gpu, ops in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RirnError(
            f"{file} cannot be read as what `rirn bench --tune` writes ({error}): measure anew or remove it"
        ) from error


def _checked(op: str, kind: str, found: Any) -> Steps:
    if op not in COUNTED or kind not in PRECISIONS:
        raise ValueError(f"{op} in {kind} is nothing that is tuned")
    made = tuple((int(most), str(form)) for most, form in found)
    if list(made) != sorted(made) or any(form not in FORMS for _, form in made):
        raise ValueError(f"steps of {op} must rise and name {', '.join(FORMS)}; got {found!r:.100}")
    return made


def write(file: Path, gpu: str, measured: Table) -> None:
    """Put the steps of a GPU into the file, replacing those that it has."""
    known = read(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(json.dumps(known | {gpu: measured}, indent=1) + "\n")
    beside.replace(file)
