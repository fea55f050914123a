"""Methods whose tensors must be named, since nothing would reveal two of the same shape given in the wrong order."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

Module = TypeVar("Module")
Named = ParamSpec("Named")
Result = TypeVar("Result")


def by_name(
    method: Callable[Concatenate[Module, Named], Result],
) -> Callable[Concatenate[Module, Named], Result]:
    """Make a method whose arguments are all keyword-only say so, in a TypeError, when they are given by position."""
    named = ", ".join(f"{name}=..." for name in list(inspect.signature(method).parameters)[1:])
    what = "" if method.__name__ == "forward" else f".{method.__name__}"

    @functools.wraps(method)
    def checked(self: Module, /, *args: Named.args, **kwargs: Named.kwargs) -> Result:
        if args:
            raise TypeError(
                f"{type(self).__name__}{what} takes its tensors by name, for two of one shape could be swapped unseen; "
                f"got {len(args)} by position: write ({named})"
            )
        return method(self, *args, **kwargs)

    return checked
