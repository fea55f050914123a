"""Benchmark cases: ops, modules, networks and training steps at the sizes of the published networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from rirn.bench.options import MODULES
from rirn.errors import RirnError
from rirn.models import model_names
from rirn.models.registry import BASES, near_match
from rirn.ops.spec import OPS
from rirn.weights.names import shipped

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fast": torch.float32}

DEFAULT_GROUPS = ("ops", "modules", "models")
DEFAULT_MODEL = "ifi-rnn+rirn"


class Sizes(NamedTuple):
    """Sizes from the command line; each is height x width, the clip batch x frames x height x width."""

    features: tuple[int, int] = (180, 320)  # of a 720p frame / 4
    frame: tuple[int, int] = (720, 1280)
    clip: tuple[int, int, int, int] = (2, 8, 128, 128)
    batch: int = 1  # of the features
    channels: int | None = None  # of the features; None for those of the published networks


QUICK = Sizes((24, 40), (32, 48), (1, 2, 16, 16))


@dataclass(frozen=True)
class Case:
    """One op, module or network at one size."""

    group: str
    name: str
    channels: int | None
    height: int
    width: int
    dtype: str
    batch: int = 1
    frames: int = 1

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}"
        if self.group == "train":
            size = f"train {self.batch}x{self.frames}x{size}"
        elif self.channels is None:
            size = f"step {size}"
        else:
            size = f"{f'n={self.batch} ' if self.batch > 1 else ''}c={self.channels} {size}"
        return f"{self.name} {size} {self.dtype}"

    @property
    def is_pointwise(self) -> bool:
        """Whether it is limited by memory rather than arithmetic."""
        return self.name in OPS and OPS[self.name].operations is not None

    def key(self) -> dict[str, object]:
        """The case as a dictionary of JSON types."""
        return {
            "group": self.group,
            "name": self.name,
            "channels": self.channels,
            "batch": self.batch,
            "frames": self.frames,
            "size": f"{self.height}x{self.width}",
            "dtype": self.dtype,
        }


def select(
    groups: Sequence[str],
    ops: Sequence[str],
    models: Sequence[str],
    dtypes: Sequence[str],
    sizes: Sizes,
) -> list[list[Case]]:
    """Return the cases in the order they run; those of one inner list are timed in alternation.

    Without ``groups``, naming ops or models selects only their groups. ``ops`` also selects modules, and ``models`` the
    base networks of ``ratios``.

    Raises:
        RirnError: an unknown name.
    """
    for name in models:
        known = (*model_names(), *shipped())
        if name not in known:
            raise RirnError(f"there is no model {name!r} to time; {near_match(name, known)}")
    for name in ops:
        if name not in (*OPS, *MODULES):
            raise RirnError(f"there is no op {name!r} to time; {near_match(name, (*OPS, *MODULES))}")
    if not groups:
        groups = [g for g, names in (("ops", OPS), ("modules", MODULES)) if any(o in names for o in ops)]
        groups = [*groups, *(["models"] if models else [])] or DEFAULT_GROUPS
    found: list[list[Case]] = []
    h, w = sizes.features
    for dtype in dtypes:
        for group, channels in (
            ("ops", {name: op.channels for name, op in OPS.items()}),
            ("modules", MODULES),
        ):
            if group not in groups:
                continue
            for name in channels:
                if not ops or name in ops:
                    each = channels[name] if sizes.channels is None else (sizes.channels,)
                    found += [[Case(group, name, c, h, w, dtype, sizes.batch)] for c in each]
        if "models" in groups:
            found += [[Case("models", name, None, *sizes.frame, dtype)] for name in models or [DEFAULT_MODEL]]
        if "train" in groups:
            n, t, *size = sizes.clip
            found += [
                [Case("train", name, None, *size, dtype, batch=n, frames=t)]
                for name in models or [DEFAULT_MODEL]
            ]
        if "ratios" in groups:
            asked = {name.partition("+")[0] for name in models}
            bases = [name for name in BASES if not models or name in asked]
            found += [
                [Case("ratios", name, None, *sizes.frame, dtype) for name in (base, f"{base}+rirn")]
                for base in bases
            ]
    return found
