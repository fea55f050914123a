"""docs/ops.md, written from the signatures and docstrings of the public ops.

``python -m tests.ops.page`` writes the part of the page between its markers anew; a test compares. The page has the
summary of a docstring, the sentence behind it with the formula, and the arguments; `help` has the rest and the example, which
tests/test_docstrings.py runs.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import rirn.ops
from rirn.ops.spec import OPS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "ops.md"
BEGIN, END = "<!-- from the docstrings: python -m tests.ops.page -->", "<!-- /from the docstrings -->"
SECTION = re.compile(r"^(Args|Returns|Raises|Example):\n", re.MULTILINE)


def sections(docstring: str) -> dict[str, str]:
    """The parts of a docstring in Google's style by their heading, what stands before them under ''."""
    parts = SECTION.split(inspect.cleandoc(docstring))
    return {"": parts[0].strip()} | {
        name: textwrap.dedent(body).strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def entries(text: str) -> dict[str, str]:
    """``name: text`` of each entry of a section, with lines joined."""
    found = re.findall(r"^(\w+): (.*(?:\n[ ]+.*)*)", text, re.MULTILINE)
    return {name: " ".join(body.split()) for name, body in found}


def shapes(function: Callable) -> dict[str, str]:
    """The comment behind each argument of a signature, and behind the result under 'return'."""
    source = inspect.getsource(function)
    node = ast.parse(source).body[0]
    head = source.splitlines()[: node.body[0].lineno - 1]
    comments = {}
    for line in head:
        code, _, comment = line.partition("#")
        name = re.match(r"\s*(\w+): ", code)
        if comment and (name or code.startswith(")")):
            comments[name[1] if name else "return"] = " ".join(comment.split())
    return comments


def markdown(text: str) -> str:
    """Docstring to Markdown: one kind of quotes for code, no roles of Sphinx, not what the head of the page says of all ops."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r", float32, float64, float16 or bfloat16(, any strides)?", "", text.replace("``", "`"))


def item(text: str) -> str:
    """One entry of a list."""
    return textwrap.fill(
        text, 140, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def section(name: str) -> str:
    """One op as a part of the page."""
    function = getattr(rirn.ops, name)
    parts, comments = sections(function.__doc__), shapes(function)
    described = entries(parts.get("Args", ""))
    parameters = inspect.signature(function).parameters.values()
    call = str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))
    summary, _, formula = parts[""].partition("\n\n")
    formula = re.split(r"(?<=[.])\s", formula)[0]
    about = f"{summary}\n\n{formula}".strip()
    lines = [f"## {name}", "", "```text", f"{name}{call}", "```", "", markdown(about), ""]
    for p in parameters:
        if p.name != "backend":
            what = described.get(p.name) or comments.get(p.name, "")
            lines.append(item(f"`{p.name}`: {markdown(what)}"))
    result = " ".join(parts["Returns"].split()) if "Returns" in parts else comments["return"]
    lines.append(item(f"returns {markdown(result)}"))
    return "\n".join(lines)


def written(text: str) -> str:
    """The page with its generated part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    names = sorted({*OPS, "gru_reset"})  # a function without forms of its own
    body = "\n\n".join(section(name) for name in names)
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
