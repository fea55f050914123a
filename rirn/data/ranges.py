"""Checks of the settings of clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rirn.errors import RirnError


def check_rates(group: str, settings: Any, *names: str) -> None:
    """Refuse probabilities outside [0, 1].

    Raises:
        RirnError: with ``group.name`` and the value.
    """
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise RirnError(f"{group}.{name} must lie in [0, 1]; got {getattr(settings, name)}")


def check_ranges(group: str, settings: Any, limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse pairs of a first and a last value that are not in order between the limits.

    Raises:
        RirnError: with ``group.name`` and the values.
    """
    for name, (least, largest) in limits.items():
        first, last = getattr(settings, name)
        if not least <= first <= last <= largest:
            raise RirnError(
                f"{group}.{name} must be two numbers with {least} <= first <= last <= {largest}; got {[first, last]}"
            )
