"""Triton kernels, installed as ``rirn.kernels``: one file per op, compiled on the first call on a GPU.

The package imports without Triton; :func:`why_not` then says what is missing.
"""

from __future__ import annotations

import os

try:
    import triton
    import triton.language as tl

    jit = triton.jit
    _missing = None
except ImportError as error:
    triton = tl = None
    _missing = f"Triton does not import here ({error}): install it with `pip install triton`"

    def jit(function=None, **options):
        """Stand in for triton.jit, so that the kernel files import; nothing can be launched."""
        return jit if function is None else function


if _missing is None:
    from rirn.kernels import shipped

    shipped.look_up()


def why_not() -> str | None:
    """Return None if Triton is installed, otherwise the reason in words."""
    return _missing


def interpreted() -> bool:
    """Tell whether kernels run in Triton's interpreter, which takes CPU tensors (a test aid, and slow)."""
    return os.environ.get("TRITON_INTERPRET") == "1"
