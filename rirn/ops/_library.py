"""The compiled library ``rirn._C``: loaded once; if it is missing, the reason in one sentence."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

PACKAGE = Path(__file__).resolve().parent.parent
MODULE = "rirn._C"


@dataclass(frozen=True)
class Library:
    """State of the compiled library."""

    path: str | None = None  # the file, if there is one
    reason: str | None = None  # None when it is loaded; otherwise one sentence that ends with the cure
    build: dict[str, Any] = field(
        default_factory=dict
    )  # compiler, flags, cuda_archs, torch target; empty when not loaded
    isa: str | None = None  # SIMD variant of the CPU kernels that this machine picks

    @property
    def loaded(self) -> bool:
        return self.reason is None


def _why_not_there(package: Path) -> tuple[str, bool]:
    """Say why the package folder has no library, and whether that is likely to surprise the user."""
    record = package / "_build_info.json"
    if record.is_file():
        plan = json.loads(record.read_text(encoding="utf-8"))
        if not plan.get("cpu", True):
            why = plan.get("reason")
            return f"rirn was installed without its compiled library ({why}): reinstall to compile it", False
    if (package.parent / "setup.py").is_file():
        return (
            f"rirn was imported from the source checkout {package.parent}, which holds no compiled library "
            "and hides a regular install while Python runs from there: run `pip install -e .` in it, or "
            "start Python in another folder"
        ), True
    return (
        "rirn was installed without its compiled library: reinstall it where there is a C++ compiler",
        False,
    )


def _build_info() -> dict[str, Any]:
    text = torch.ops.rirn.build_info()
    try:
        info = json.loads(text)
    except json.JSONDecodeError:
        return {"text": text}
    return info if isinstance(info, dict) else {"text": text}


def load(package: Path = PACKAGE, module: str = MODULE) -> Library:
    """Import the compiled library and report what happened; a missing or broken one does not raise.

    Pure-Python installs are a supported way to run (on the reference), so they stay silent. A library that is
    present but does not load, or that the checkout hides, is not what anybody asked for: those two warn.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        reason, surprising = _why_not_there(package)
        if surprising:
            warnings.warn(
                f"{reason}; until then rirn runs on the slower reference", RuntimeWarning, stacklevel=2
            )
        return Library(reason=reason)
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        version = torch.__version__
        reason = f"{spec.origin} does not load with torch {version} ({first_line}): reinstall rirn for it"
        warnings.warn(f"{reason}; until then rirn runs on the slower reference", RuntimeWarning, stacklevel=2)
        return Library(path=spec.origin, reason=reason)
    return Library(path=spec.origin, build=_build_info(), isa=torch.ops.rirn.cpu_isa())


@functools.lru_cache(maxsize=1)
def library() -> Library:
    """Return the state of the compiled library; the first call loads it."""
    return load()
