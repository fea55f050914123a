"""Names of models, and the one way to make one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable

from rirn.errors import RirnError
from rirn.models.base import BaseNetwork
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.ifi_rnn import IFIRNN

BASES: dict[str, type[BaseNetwork]] = {"ifi-rnn": IFIRNN}

ADDITIONS: dict[str, dict[str, bool]] = {
    "": {},
    "control": {"fuse": True},
    "irm": {"irm": True},
    "atb": {"atb": True},
    "rirn": {"irm": True, "atb": True},
}
"""What may follow a base name after a plus sign, and what it adds."""


def model_names() -> list[str]:
    """All names that :func:`create_model` takes."""
    return [f"{base}+{addition}" if addition else base for base in BASES for addition in ADDITIONS]


def create_model(name: str, *, residual: bool = False, **options) -> VideoDeblurrer:
    """Make a model with fresh weights.

    Args:
        name: a base network, alone or with an addition: ``"ifi-rnn"``, ``"ifi-rnn+rirn"``, ``"+irm"``, ``"+atb"``,
            ``"+control"`` (the added reconstructor layers without added memory).
        residual: predict the difference to the input frame (see :class:`~rirn.models.deblurrer.VideoDeblurrer`).
        **options: of the base network: ``width`` (factor on the internal channels), ``variant="C2H3"`` for IFI-RNN.

    Raises:
        RirnError: an unknown name or option; the message has the nearest one that exists.

    Example:
        >>> import rirn
        >>> model = rirn.create_model("ifi-rnn+rirn")
        >>> sum(p.numel() for p in model.parameters())
        1508763
    """
    if name not in model_names():
        raise RirnError(f"there is no model {name!r}; {near_match(name, model_names())}")
    base_name, _, addition = name.partition("+")
    base_class = BASES[base_name]
    known = list(inspect.signature(base_class).parameters)
    for option in options:
        if option not in known:
            raise RirnError(f"model {name!r} has no option {option!r}; {near_match(option, [*known, 'residual'])}")
    width = options.get("width", 1.0)
    if not 0 < width <= 8:
        raise RirnError(f"width must lie in (0, 8]; got {width}")
    model = VideoDeblurrer(base_class(**options), residual=residual, **ADDITIONS[addition])
    model.config = {"name": name, "residual": residual, **options}
    return model


def near_match(word: str, known: Iterable[str]) -> str:
    """'did you mean x?' where a known word is near, else all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
