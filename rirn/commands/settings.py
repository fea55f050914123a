"""The parser of commands whose options are the fields of a typed object, which files fill as well."""

from __future__ import annotations

import re
from typing import Any

try:
    import jsonargparse
except ImportError as error:
    raise SystemExit(
        f"rirn: this command needs jsonargparse, which does not import ({error}): "
        "run `pip install 'jsonargparse[signatures]>=4.40'`"
    ) from None

from rirn.commands.parser import OneLine


class _HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Keeps the lines of the examples below the options."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class SettingsParser(OneLine, jsonargparse.ArgumentParser):
    """A parser that takes the fields of a class with ``add_class_arguments``."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, allow_abbrev=False, formatter_class=_HelpFormatter, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        required = re.fullmatch(r"(.*arguments are required: )([\w., -]+)", message)
        if required:
            typed = []
            for name in required[2].split(", "):
                action = next((a for a in self._actions if a.dest == name), None)
                is_option = action is not None and action.option_strings
                typed.append(f"--{name}" if is_option else getattr(action, "metavar", None) or name)
            message = required[1] + ", ".join(typed)
        super().error(message, ex)
