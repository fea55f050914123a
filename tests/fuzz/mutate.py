"""Damage: of bytes, of text, and of values such as JSON and checkpoints hold. All of it follows from the generator alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)

STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "nan",
    "1e999",
    "cpu",
    "x" * 5000,
    "zwei\nZeilen",
    "\x00",
    "../../outside",
    "/nonexistent/outside",
    "\u0663",
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, "a", None],
)
"""Values that hardly any field expects."""


def flip_bits(rng: random.Random, data: bytearray, at_most: int = 16) -> None:
    for _ in range(rng.randint(1, at_most)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, data: bytearray) -> None:
    """A run of random bytes, or of one byte."""
    start = rng.randrange(len(data))
    size = min(len(data) - start, rng.choice((1, 2, 4, 16, 64, 512)))
    data[start : start + size] = (
        rng.randbytes(size) if rng.random() < 0.5 else bytes([rng.randrange(256)]) * size
    )


def extreme_number(rng: random.Random, data: bytearray) -> None:
    """An integer at a limit of its type, as lengths and counts in headers are."""
    size, order = rng.choice((1, 2, 4, 8)), rng.choice(("big", "little"))
    start = rng.randrange(len(data))
    number = (rng.choice(EXTREMES) & (256**size - 1)).to_bytes(size, order)
    data[start : start + size] = number[: len(data) - start]


def truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def cut_out(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 3, 16, 200))]


def repeat(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.choice((1, 4, 64, 1000))]
    data[start:start] = piece * rng.randint(1, 3)


def append(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.choice((1, 16, 1000)))


def swap_pieces(rng: random.Random, data: bytearray) -> None:
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    size = min(rng.choice((4, 32, 256)), b - a, len(data) - b)
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


DAMAGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flip_bits,
    flip_bits,
    overwrite,
    extreme_number,
    extreme_number,
    truncate,
    cut_out,
    repeat,
    append,
    swap_pieces,
)


def damage(rng: random.Random, content: bytes, *, head: int | None = None) -> bytes:
    """Bytes with one to three damages; ``head`` keeps half of them in the first bytes, where a header is."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not data:
            break
        if head is not None and rng.random() < 0.5:
            front = data[:head]
            rng.choice(DAMAGES)(rng, front)
            data[:head] = front
        else:
            rng.choice(DAMAGES)(rng, data)
    return bytes(data)


def strange(rng: random.Random) -> Any:
    """A value that hardly any field expects."""
    if rng.random() < 0.03:  # deeper than any reader recurses
        value: Any = []
        for _ in range(rng.choice((20, 200))):
            value = [value]
        return value
    return rng.choice(STRANGE)


def change_value(rng: random.Random, value: Any, other: Callable[[random.Random], Any] = strange) -> Any:
    """A copy of nested dictionaries and lists in which one thing is replaced, missing, added or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        copy = dict(value)
        key = rng.choice(list(copy))
        deed = rng.random()
        if deed < 0.6:
            copy[key] = change_value(rng, copy[key], other)
        elif deed < 0.75:
            del copy[key]
        elif deed < 0.85:
            copy[rng.choice(("", "x", str(key) + "s"))] = other(rng)
        else:
            copy[rng.choice(("", "y", str(key).upper()))] = copy.pop(key)
        return copy
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.9:
        items = list(value)
        i = rng.randrange(len(items))
        deed = rng.random()
        if deed < 0.7:
            items[i] = change_value(rng, items[i], other)
        elif deed < 0.85:
            del items[i]
        else:
            items.insert(i, items[i])
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return change_tensor(rng, value)
    return other(rng)


def change_tensor(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of another shape, dtype or layout, or with values that are not finite."""
    deed = rng.randrange(8)
    if deed == 0:
        return tensor.flatten()
    if deed == 1:
        return tensor[None]
    if deed == 2:
        return tensor[..., :-1] if tensor.dim() else tensor[None]
    if deed == 3:
        return tensor.to(rng.choice((torch.float64, torch.float16, torch.int8, torch.bool, torch.complex64)))
    if deed == 4:
        return torch.empty(0)
    if deed == 5:
        return torch.zeros(1).expand(2, 3, 4, 5)
    if deed == 6:
        return tensor.to_sparse() if tensor.dim() and tensor.is_floating_point() else tensor.flatten()
    filled = tensor.clone()
    if filled.is_floating_point():
        filled.view(-1)[: max(1, filled.numel() // 2)] = rng.choice((float("nan"), float("inf"), 1e30))
    else:
        filled.fill_(rng.choice((0, 1)))
    return filled
