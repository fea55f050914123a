"""The parser of commands whose options are the fields of a dataclass, which YAML files fill as well."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from rirn.commands import values
from rirn.commands.parser import Parser, nearest
from rirn.commands.values import WrongValueError

METAVARS = {
    int: "N",
    float: "X",
    str: "TEXT",
    Path: "PATH",
    list: "[...]",
    tuple: "[...]",
    bool: "{true,false}",
}


class SettingsParser(Parser):
    """Options such as ``--optim.lr`` for the fields of a dataclass, nested ones at the dots.

    ``settings`` of what ``parse_args`` returns makes the object. Values are YAML, as in a file, but what may be text is taken
    as it is; ``--name+=`` adds to a list. Files that ``--config`` names come first, whatever the order on the command line.

    Args:
        settings: the dataclass; the strings below its fields are their help.
        find_file: the path of what ``--config`` names; without it there is no such option.
        config_help: of ``--config``.
        kwargs: as for any parser.
    """

    def __init__(
        self,
        settings: type,
        find_file: Callable[[str], Path] | None = None,
        config_help: str = "",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._settings, self._find_file = settings, find_file
        self._hints: dict[str, Any] = {}
        self._described: list[tuple[argparse.Action, type, dataclasses.Field]] = []
        if find_file is not None:
            self.add_argument("--config", action="append", default=[], metavar="FILE", help=config_help)
        self._add_fields(settings, "")

    def _add_fields(self, cls: type, prefix: str) -> None:
        section = self.add_argument_group(_plain((cls.__doc__ or "").partition("\n")[0]).rstrip("."))
        for field in dataclasses.fields(cls):
            name, hint = prefix + field.name, values.hints(cls)[field.name]
            self._hints[name] = hint
            is_list = any(get_origin(kind) is list for kind in values.choices(hint))
            self._described.append((self._add(section, f"--{name}", *[f"--{name}+"] * is_list), cls, field))
        for field in dataclasses.fields(cls):
            inner = values.group(values.hints(cls)[field.name])
            if inner is not None:
                self._add_fields(inner, f"{prefix}{field.name}.")

    def _add(self, section: Any, *options: str) -> argparse.Action:
        hint = self._hints.get(options[0][2:], Any)
        return section.add_argument(
            *options, action=_Give, dest="given", default=argparse.SUPPRESS, metavar=_metavar(hint)
        )

    def format_help(self) -> str:
        """The help; the strings below the fields are looked up for it alone."""
        for action, cls, field in self._described:
            first = values.default(field)
            plain = isinstance(first, (bool, int, float, str, tuple))
            shown = str(first).lower() if isinstance(first, bool) else str(first)
            help_text = _documents(cls).get(field.name, "") + (f" (default: {shown})" if plain else "")
            action.help = help_text.strip().replace("%", "%%") or None
        return super().format_help()

    def parse_args(self, words: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """What was typed, and ``settings``, which makes the object and raises what that raises."""
        self._add_free_names(words)
        typed = super().parse_args(words)
        given = typed.__dict__.pop("given", [])
        try:
            tree: Any = {}
            for name in typed.__dict__.pop("config", []):
                tree = values.merge(tree, self._file(name))
            for option, text in given:
                tree = values.merge(tree, self._typed(tree, option, text))
        except WrongValueError as wrong:
            self.error(f"{wrong}{nearest(wrong.unknown, self._hints)}")
        missing = [f"--{name}" for name in values.missing(self._settings, tree)]
        if missing:
            self.error(f"the following arguments are required: {', '.join(missing)}")
        typed.settings = functools.partial(values.build, self._settings, tree)
        return typed

    def _add_free_names(self, words: Sequence[str]) -> None:
        """Options below those that hold whatever names, such as ``--model.options.depth``."""
        free = [f"--{name}." for name, hint in self._hints.items() if get_origin(hint) is dict]
        for word in words:
            option = word.partition("=")[0]
            if option.startswith(tuple(free)) and option not in self._option_string_actions:
                self._add(self, option)

    def _file(self, name: str) -> dict[str, Any]:
        """The settings of a file."""
        if self._find_file is None:
            return {}
        path, where = self._find_file(name), f"the configuration file {name}"
        try:
            tree = values.load(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise WrongValueError(f"{where} is not text in UTF-8; give a YAML file") from error
        except WrongValueError as wrong:
            raise WrongValueError(f"{where} {wrong}") from wrong
        if not isinstance(tree, dict) or not tree:
            what = "it is empty" if tree is None else f"got {tree!r:.100}"
            raise WrongValueError(f"{where} holds no settings that can be read: {what}")
        try:
            return values.checked_group(tree, self._settings)
        except WrongValueError as wrong:
            raise WrongValueError(f"in {where}, {wrong}", wrong.unknown) from wrong

    def _typed(self, tree: Any, option: str, text: str) -> dict[str, Any]:
        """A setting of the command line."""
        name = option[2:].rstrip("+")
        keys, hint = name.split("."), self._hints.get(name) or self._hint_below(name.rpartition(".")[0])
        try:
            value = values.read(text, hint)
        except WrongValueError as wrong:
            raise WrongValueError(f"{text:.100} of {option} {wrong}") from wrong
        adds = option.endswith("+")
        value = values.checked([value] if adds and not isinstance(value, list) else value, hint, name)
        if adds:
            for key in keys:
                tree = tree.get(key) if isinstance(tree, dict) else None
            value = [*([] if tree is None else tree if isinstance(tree, list) else [tree]), *value]
        for key in reversed(keys):
            value = {key: value}
        return value

    def _hint_below(self, name: str) -> Any:
        """The type of the values of a setting that takes any names."""
        hint = self._hints.get(name)
        return get_args(hint)[1] if get_origin(hint) is dict else Any


class _Give(argparse.Action):
    """Keeps options in the order they were typed."""

    def __call__(self, parser, namespace, text, option=None):
        namespace.given = [*getattr(namespace, "given", []), (option, text)]


def _metavar(hint: Any) -> str:
    kind = values.choices(hint)[0]
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    return METAVARS.get(get_origin(kind) or kind, "{...}")


@functools.cache
def _documents(cls: type) -> dict[str, str]:
    """The string below each field of a class."""
    tree = _tree(str(sys.modules[cls.__module__].__file__))
    (body,) = (
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    )
    return {
        field.target.id: _plain(" ".join(text.value.value.split()))
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _plain(text: str) -> str:
    """A docstring's text without its markup, for a terminal."""
    return re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "")


@functools.cache
def _tree(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"))
