"""Names of models, and the way to create one."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from rirn.errors import RirnError, near_match
from rirn.models.base import BaseNetwork
from rirn.models.checked import check_base
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.gated import GRU, LSTM
from rirn.models.ifi_rnn import IFIRNN
from rirn.models.mmp_rnn import MMPRNN
from rirn.models.rdbn import ESTRNN, RDBN
from rirn.models.stfan import STFAN
from rirn.models.strcnn import STRCNN
from rirn.plugins import find_plugins

BASES: dict[str, type[BaseNetwork]] = {
    "ifi-rnn": IFIRNN,
    "strcnn": STRCNN,
    "stfan": STFAN,
    "rdbn": RDBN,
    "mmp-rnn": MMPRNN,
    "gru": GRU,
    "lstm": LSTM,
}
"""Networks that RIRN can be added to, by name; each comes with every addition."""

ADDITIONS: dict[str, dict[str, bool]] = {
    "": {},
    "control": {"fuse": True},
    "irm": {"irm": True},
    "atb": {"atb": True},
    "rirn": {"irm": True, "atb": True},
}
"""What may follow a base name after a plus sign, and what it adds."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is made: a base network with some of its options fixed, and what is added to it."""

    base: type[BaseNetwork]
    additions: Mapping[str, bool]
    fixed: Mapping[str, object] = dataclasses.field(default_factory=dict)


BASELINES = {
    "ifi-rnn+dtb": Recipe(IFIRNN, {"dtb": True}),
    "rdbn+dtb": Recipe(RDBN, {"dtb": True}),
    "rdbn+gsa": Recipe(ESTRNN, {}, {"future": 0}),
    "estrnn": Recipe(ESTRNN, {}),
}
"""What the paper compares its modules with."""


def register_base(name: str) -> Callable[[type[BaseNetwork]], type[BaseNetwork]]:
    """Class decorator: register your own base network as ``name``, alone and with every addition.

    Args:
        name: lower-case letters, digits, ``-``, ``_`` and ``.``; a plus sign would start an addition.

    Raises:
        RirnError: the name is taken or has other characters, or the class is not a :class:`~rirn.models.base.BaseNetwork` or
            lacks a part of one.

    Example:
        >>> import rirn
        >>> from rirn.models.ifi_rnn import IFIRNN
        >>> @rirn.register_base("shallow")
        ... class Shallow(IFIRNN):
        ...     def __init__(self, *, width: float = 1.0, blocks: int = 1):
        ...         super().__init__(width=width, blocks=blocks)
        >>> rirn.create_model("shallow+rirn", width=0.2).config["name"]
        'shallow+rirn'
    """

    def register(base: type[BaseNetwork]) -> type[BaseNetwork]:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
            raise RirnError(
                f"a base network cannot be called {name!r:.100}; use lower-case letters, digits, '-', '_' and '.'"
            )
        if not (isinstance(base, type) and issubclass(base, BaseNetwork)):
            raise RirnError(
                f"the base network {name!r} must be a class derived from BaseNetwork; got {base!r:.100}"
            )
        if inspect.isabstract(base):
            raise RirnError(f"the base network {name!r} lacks {', '.join(sorted(base.__abstractmethods__))}")
        known = BASES.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            base.__module__,
            base.__qualname__,
        ):
            raise RirnError(
                f"there is a base network {name!r} already, of {known.__module__}; take another name"
            )
        BASES[name] = base
        return base

    return register


def recipes() -> dict[str, Recipe]:
    """Return all models by name."""
    return {
        f"{name}+{addition}" if addition else name: Recipe(base, added)
        for name, base in BASES.items()
        for addition, added in ADDITIONS.items()
    } | BASELINES


def model_names() -> list[str]:
    """Return all names that :func:`create_model` takes."""
    return list(recipes())


def create_model(
    name: str,
    *,
    residual: bool = False,
    identity_init: bool = False,
    atb_decay: float = 1.0,
    atb_max_weight: float = 1.0,
    half_resolution: bool = False,
    **options: Any,
) -> VideoDeblurrer:
    """Create a model with fresh weights.

    Args:
        name: a base network (``ifi-rnn``, ``strcnn``, ``stfan``, ``rdbn``, ``mmp-rnn``, ``gru``, ``lstm``), alone or with an
            addition: ``"ifi-rnn+rirn"``, ``"+irm"``, ``"+atb"``, ``"+control"`` (the added reconstructor layers
            without added memory); or a baseline: ``"ifi-rnn+dtb"``, ``"rdbn+dtb"``, ``"rdbn+gsa"``, ``"estrnn"``.
        residual: predict the difference to the input frame (see
            :class:`~rirn.models.deblurrer.VideoDeblurrer`).
        identity_init: with an addition, start as exactly the base network; no effect without one.
        atb_decay: with ATB, upper bound of the gate of f~_{t-1}, in (0, 1]; below 1, f~ cannot grow without bound on
            long videos (see :class:`~rirn.nn.ATB`).
        atb_max_weight: with ATB, upper bound of the gate of f_t, in (0, 8]; above 1 a single feature can be amplified.
        half_resolution: with ``residual``, work on frames of half the size (see
            :class:`~rirn.models.deblurrer.VideoDeblurrer`).
        **options: options of the base network: ``width`` (factor on the internal channels) for all,
            ``variant="C2H3"`` for IFI-RNN, ``blocks=9`` for IFI-RNN, RDBN and MMP-RNN, ``ends="drop"`` for STRCNN,
            ESTRNN and MMP-RNN; see their docstrings for more.

    Raises:
        RirnError: the name or an option is unknown, in which case the message suggests the nearest one; or a registered
            network does not do what it declares.

    Example:
        >>> import rirn
        >>> model = rirn.create_model("ifi-rnn+rirn")
        >>> sum(p.numel() for p in model.parameters())
        1508763
    """
    recipe = _recipe(name)
    flags = {"residual": residual, "identity_init": identity_init, "half_resolution": half_resolution}
    gates: dict[str, Any] = {"atb_decay": atb_decay, "atb_max_weight": atb_max_weight}
    _check_options(name, recipe, options)
    _check_additions(name, recipe, flags, gates)
    base = recipe.base(**options, **recipe.fixed)
    if not recipe.base.__module__.startswith("rirn."):
        check_base(base)
    model = VideoDeblurrer(base, **flags, **gates, **recipe.additions)
    model.config = {"name": name, "residual": residual, **options}
    model.config |= {option: value for option, value in gates.items() if value != 1}
    if half_resolution:
        model.config["half_resolution"] = True
    return model


def _recipe(name: str) -> Recipe:
    """Return the recipe for a name; if it is unknown, look for plugins."""
    known = recipes()
    if name not in known:
        find_plugins()
        known = recipes()
    if name not in known:
        raise RirnError(f"there is no model {name!r:.100}; {near_match(name, known)}")
    return known[name]


def _check_options(name: str, recipe: Recipe, options: Mapping[str, Any]) -> None:
    """Refuse options that the base network does not have, and values that it cannot take."""
    parameters = inspect.signature(recipe.base).parameters
    names = [option for option in parameters if option not in recipe.fixed]
    for option, value in options.items():
        if option not in names:
            near = near_match(option, [*names, "residual", "identity_init", *GATES, "half_resolution"])
            raise RirnError(f"model {name!r} has no option {option!r:.100}; {near}")
        _check_option(option, value, parameters[option].default)
    width = options.get("width", 1.0)
    if not 0 < width <= 8:
        raise RirnError(f"width must lie in (0, 8]; got {width}")


def _check_additions(
    name: str, recipe: Recipe, flags: Mapping[str, bool], gates: Mapping[str, float]
) -> None:
    """Refuse options of the additions that have the wrong type, are out of bounds or have no effect."""
    for option, value in flags.items():
        _check_option(option, value, False)
    for option, factor in gates.items():
        _check_option(option, factor, 1.0)
        if not 0 < factor <= GATES[option]:
            raise RirnError(f"{option} must lie in (0, {GATES[option]}]; got {factor}")
        if factor != 1 and not recipe.additions.get("atb"):
            raise RirnError(f"{option} is an option of models with ATB, which {name!r} has not")
    if flags["half_resolution"] and not flags["residual"]:
        raise RirnError(
            "half_resolution needs residual=True, for the finest detail of the result comes from the input; "
            "got residual=False"
        )


def _check_option(option: str, value: object, default: object) -> None:
    """Check that an option has the type of its default, which a damaged file may violate, and that no count is too large."""
    kind = type(default)
    allowed = (int, float) if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, allowed):
        raise RirnError(f"{option} must be a {TYPES[kind]}; got {value!r:.50}")
    if kind is int and isinstance(value, int) and value > LARGEST_COUNT:
        raise RirnError(f"{option} must be at most {LARGEST_COUNT}; got {value:.0e}")


TYPES = {bool: "truth value", int: "whole number", float: "number", str: "word"}
GATES = {"atb_decay": 1, "atb_max_weight": 8}
"""Options of ATB, and the largest value of each."""
LARGEST_COUNT = 100
"""Most blocks or frames of a network; those of the paper have at most 15."""
