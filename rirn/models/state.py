"""What a video deblurrer remembers between two frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rirn.errors import RirnError

GROUPS = ("base", "frames", "inputs", "features")


@dataclasses.dataclass(frozen=True)
class State:
    """Recurrent state of a model after a frame; it is held by the caller, not by a module.

    Every tensor has the batch in dimension 0. A state without tensors is that before the first frame.
    """

    base: tuple[Tensor, ...] = ()
    """State of the base network."""
    inner: Tensor | None = None
    """h~_t, [N, c, H/s, W/s], with an inner-recurrence module."""
    blended: Tensor | None = None
    """f~_t, [N, c, H/s, W/s], with temporal blending."""
    frames: tuple[Tensor, ...] = ()
    """Newest frames, [N, 3, H, W] each, still waiting for their images in a model that looks ahead; fewer while it starts."""
    inputs: tuple[Tensor, ...] = ()
    """Newest frames as the network sees them, [N, 3, H, W] or half that size, in a model that reads several together."""
    features: tuple[Tensor, ...] = ()
    """Newest features f, [N, c, H/s, W/s] each, in a model whose head reads those of several frames."""

    def map(self, function: Callable[[Tensor], Tensor]) -> State:
        """Return a state with ``function`` applied to each tensor."""
        return State(
            tuple(function(t) for t in self.base),
            None if self.inner is None else function(self.inner),
            None if self.blended is None else function(self.blended),
            tuple(function(t) for t in self.frames),
            tuple(function(t) for t in self.inputs),
            tuple(function(t) for t in self.features),
        )

    def to(self, *args: Any, **kwargs: Any) -> State:
        """Apply :meth:`torch.Tensor.to` to each tensor."""
        return self.map(lambda t: t.to(*args, **kwargs))

    def detach(self) -> State:
        """The same values without history, for truncated back-propagation through time."""
        return self.map(Tensor.detach)

    def __getitem__(self, index: int | slice | Tensor) -> State:
        """Return the state of some elements of the batch; an integer keeps a batch of one."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return self.map(lambda t: t[index])

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        named = {f"{group}.{i}": t for group in GROUPS for i, t in enumerate(getattr(self, group))}
        optional = {"inner": self.inner, "blended": self.blended}
        return named | {name: t for name, t in optional.items() if t is not None}

    def save(self, path: str | Path) -> None:
        """Write the state as a safetensors file."""
        # Cloned: a window at the ends of a video holds a frame more than once, which the format refuses.
        tensors = {name: t.detach().clone().contiguous() for name, t in self.tensors().items()}
        Path(path).write_bytes(save(tensors))  # save_file would hide the file from others, whatever the umask

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> State:
        """Read a state written by :meth:`save`.

        Raises:
            RirnError: the file is missing or contains no state.
        """
        try:
            tensors = load_file(path, device=str(device))
        except (OSError, SafetensorError) as error:
            raise RirnError(f"cannot read a state from {path}: {error}") from error
        try:
            return cls.from_tensors(tensors)
        except ValueError as error:
            raise RirnError(f"{path} holds no recurrent state; give a file written by State.save") from error

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> State:
        """Rebuild the state from its :meth:`tensors`.

        Raises:
            ValueError: there are none, or their names are not those of a state.
        """
        rest = dict(tensors)
        inner, blended = rest.pop("inner", None), rest.pop("blended", None)
        counts = {group: sum(name.startswith(f"{group}.") for name in rest) for group in GROUPS}
        expected = {f"{group}.{i}" for group, count in counts.items() for i in range(count)}
        if not rest or set(rest) != expected:
            raise ValueError(f"no recurrent state has the tensors {sorted(tensors)}")
        groups = {group: tuple(rest[f"{group}.{i}"] for i in range(n)) for group, n in counts.items()}
        return cls(inner=inner, blended=blended, **groups)


torch.export.register_dataclass(State)
