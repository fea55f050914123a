"""Whether a value that was read from a file is a report: has every field that is looked at, each of its type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """Finite, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def is_error(value: Any) -> bool:
    """A number, or what a wrong result may come to: NaN or infinite."""
    return isinstance(value, float) or is_number(value)


def is_count(value: Any) -> bool:
    return isinstance(value, int)


def maybe(test: Test) -> Test:
    """The test, or nothing there."""
    return lambda value: value is None or test(value)


def list_of(test: Test, *, least: int = 0, most: float = math.inf) -> Test:
    return lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(test, value))


def has(fields: Mapping[str, Test]) -> Test:
    """Whether a value is a dictionary with these fields; it may have more."""
    return lambda value: (
        isinstance(value, dict) and all(f in value and fits(value[f]) for f, fits in fields.items())
    )


def is_limits(value: Any) -> bool:
    return has({"copy": is_number, "fp32": is_number})(value) and all(
        is_number(limit) and limit > 0 for limit in value.values()
    )


_UNTIMED = has(
    {
        **dict.fromkeys(
            ("group", "name", "size", "dtype", "passes", "competitor", "layout", "case"), is_text
        ),
        **dict.fromkeys(("channels", "batch", "frames"), maybe(is_count)),
        "error": is_error,
        "gradient_error": maybe(is_error),
        "median_ms": maybe(is_number),
    }
)
_TIMED = has(
    {
        **dict.fromkeys(("speedup", "speedup_over_compiled", "speedup_over_fp32", "share"), maybe(is_number)),
        **dict.fromkeys(("flops", "GFLOP_per_s", "peak_bytes", "saved_bytes"), maybe(is_number)),
        **dict.fromkeys(("GB_per_s", "ideal_bytes"), is_number),
        "error": is_number,
        "gradient_error": maybe(is_number),
        "quartiles_ms": list_of(is_number, least=2, most=2),
        "median_ms": lambda ms: ms > 0,
        "limit": is_text,
    }
)


def is_row(value: Any) -> bool:
    """A case that was timed, or one whose numbers were wrong and which has no times."""
    return _UNTIMED(value) and (value["median_ms"] is None or _TIMED(value))


is_report = has(
    {
        "command": is_text,
        **dict.fromkeys(("commit", "cpu_isa", "peak_memory"), maybe(is_text)),
        "versions": has({"torch": is_text}),
        "threads": has({"torch": is_number}),
        "devices": list_of(has({"name": is_text, "model": is_text}), least=1),
        "limits": is_limits,
        "results": list_of(is_row),
    }
)
"""What ``--json`` writes."""
