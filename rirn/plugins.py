"""User modules that register networks and losses, loaded when a name is unknown."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from rirn.errors import RirnError

VARIABLE = "RIRN_PLUGINS"
"""Environment variable with modules or paths of Python files, separated as in ``PATH``."""
ENTRY_POINTS = "rirn.plugins"
"""Group of entry points by which an installed package offers its module."""

_found = False


def load_plugin(name: str) -> None:
    """Import a module by name, or a file by its path, which ends in ``.py``; only once, however often it is requested.

    Raises:
        RirnError: there is no such module, or it fails.
    """
    try:
        if not name.endswith(".py"):
            importlib.import_module(name)
            return
        path = Path(name).resolve()
        if any(getattr(module, "__file__", None) == str(path) for module in [*sys.modules.values()]):
            return
        other = importlib.util.find_spec(path.stem)
        if other is not None and other.origin != str(path):
            raise RirnError(f"the plugin {name} has the name of another module; give the file another name")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        except Exception:
            del sys.modules[path.stem]
            raise
    except RirnError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RirnError(f"the plugin {name} cannot be loaded ({reason:.300})") from error


def find_plugins() -> None:
    """Load what the environment variable and installed packages name, at the first call.

    Raises:
        RirnError: one of them cannot be loaded.
    """
    global _found
    if _found:
        return
    _found = True
    for name in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        load_plugin(name)
    from importlib.metadata import (
        entry_points,
    )  # takes as long to import as all else that a command line needs

    for point in entry_points(group=ENTRY_POINTS):
        load_plugin(point.value.partition(":")[0])


def take_plugins(argv: list[str]) -> list[str]:
    """Load what ``--plugin`` names anywhere on a command line, and return the other words.

    Processes started by this one find the same plugins through the environment.
    """
    rest, names = [], []
    words = iter(argv)
    for word in words:
        if word == "--plugin":
            name = next(words, None)
            if name is None:
                raise RirnError("--plugin needs a module or the path of a Python file")
            names.append(name)
        elif word.startswith("--plugin="):
            names.append(word.partition("=")[2])
        else:
            rest.append(word)
    for name in names:
        load_plugin(name)
    absolute = [str(Path(name).resolve()) if name.endswith(".py") else name for name in names]
    known = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name and name not in absolute]
    if absolute:
        os.environ[VARIABLE] = os.pathsep.join([*known, *absolute])
    return rest
