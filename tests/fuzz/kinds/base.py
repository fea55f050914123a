"""What the kinds of input have in common."""

from __future__ import annotations

import contextlib
import functools
import io
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

Act = Callable[[], int | None]
"""Runs a case; returns an exit status, or raises what the code under test raises."""


class Kind(Protocol):
    """One sort of input."""

    def __init__(self, seeds: Path):
        """Make whole files in the folder ``seeds``."""

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        """Write damaged input into ``folder`` and say what to do with it; the result goes below ``folder/out``."""


class Echo(torch.nn.Module):
    """A network that returns its frame and, like a real one, has tensors as its state."""

    delay = 0

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def step(self, frame: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        past = torch.zeros_like(frame) if state is None else state
        return frame * self.scale + 0 * past, (frame + past) / 2


@functools.cache
def _parser(name: str) -> Any:
    from rirn.cli import COMMANDS

    parser = COMMANDS[name][0]()
    parser.prog = f"rirn {name}"
    return parser


def command(name: str, *argv: object) -> Act:
    """A command line, as a person would type it, without the parsers of all other commands, which cost most of the time."""

    def run() -> int | None:
        from rirn.cli import COMMANDS
        from rirn.commands.data import ACTIONS

        words = [str(a) for a in argv]
        if name == "bench":
            return COMMANDS[name][1](words)
        if name == "data":
            options = _data_parser(words[0]).parse_args(words[1:])
            return ACTIONS[words[0]][1](options)
        return COMMANDS[name][1](_parser(name).parse_args(words))

    return run


@functools.cache
def _data_parser(action: str) -> Any:
    from rirn.commands.data import ACTIONS

    parser = ACTIONS[action][0]()
    parser.prog = f"rirn data {action}"
    return parser


@contextlib.contextmanager
def attribute(owner: object, name: str, value: object) -> Iterator[None]:
    """Put something in the place of an attribute."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class Pipe(io.BytesIO):
    """A standard input that cannot be sought in."""

    def seekable(self) -> bool:
        return False


def with_input(content: bytes, act: Act) -> Act:
    """The same with bytes on the standard input."""

    def run() -> int | None:
        with attribute(sys, "stdin", io.TextIOWrapper(Pipe(content))):
            return act()

    return run


def pick(rng: random.Random, files: Sequence[Path]) -> tuple[Path, bytes]:
    """One of the whole files, and what is in it."""
    file = rng.choice(files)
    return file, file.read_bytes()
