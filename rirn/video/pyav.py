"""What ``import av`` gives, imported on first use: without video, PyAV is not needed."""

from __future__ import annotations

import sys
from typing import Any

from rirn.errors import RirnError


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # what Python asks of any module
        raise AttributeError(name)
    try:
        import av
    except ImportError as error:
        raise RirnError(
            f"Videos are read and written with PyAV, which does not import ({error}): run `pip install 'av>=18'`, or use "
            "folders of images"
        ) from None
    return getattr(av, name)


def failures() -> tuple[type[Exception], ...]:
    """What PyAV raises, for handlers that also see other code; nothing if PyAV was not used."""
    av = sys.modules.get("av")
    return () if av is None else (av.FFmpegError,)
