"""Code blocks of the README and the other pages: how tests find them and take shell lines apart.

A block names its language: ``python`` runs, ``pycon`` runs and prints what it says, no name is a shell, of which the lines
after ``$`` count where there are any. A comment right above a block says why it cannot run everywhere::

    <!-- not run: needs two machines -->

It is then only parsed. What needs a GPU (``<!-- needs a GPU -->``) runs where there is one.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHELL, OUTPUT = ("", "sh", "bash", "console"), ("text", "json", "yaml", "toml", "cpp", "cuda", "diff")
LANGUAGES = ("python", "pycon", *SHELL, *OUTPUT)
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>not run: [^\n]+|needs a GPU) -->\n)?(?P<indent> *)```(?P<language>\w*)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block of code: where it stands, what it is, and what is said about running it."""

    page: str
    line: int
    language: str
    text: str
    mark: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Everything that is written for readers."""
    return sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("notes/*.md"),
            *ROOT.glob("rirn/weights/*.md"),
        ]
    )


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    content = page.read_text(encoding="utf-8")
    assert content.count("```") == 2 * len(FENCE.findall(content)), f"{page}: a fence that is not understood"
    return [
        Block(
            page.relative_to(ROOT).as_posix(),
            content.count("\n", 0, match.start("language")) + 1,
            match["language"],
            textwrap.dedent(match["text"]),
            match["mark"],
        )
        for match in FENCE.finditer(content)
    ]


def lines(block: Block) -> list[str]:
    """The command lines of a shell block: continued ones joined, quoted ones whole, without what they print."""
    texts = block.text.replace("\\\n", " ").splitlines()
    if any(text.startswith("$ ") for text in texts):
        texts = [text.removeprefix("$ ") for text in texts if text.startswith("$ ")]
    found, open_line = [], ""
    for text in texts:
        line = f"{open_line}{text}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quotation goes on
            open_line = f"{line}\n"
            continue
        open_line = ""
        if words:
            found.append(line)
    assert not open_line, f"{block}: a quotation does not end"
    return found


def commands(line: str) -> list[list[str]]:
    """The words of each program of a line, without variables in front and files for input and output behind."""
    words, found = shlex.split(line, comments=True), [[]]
    redirected = False
    for word in words:
        if word in ("|", "&&", ";", "||"):
            found.append([])
        elif word in ("<", ">", ">>", "2>"):
            redirected = True
        elif redirected:
            redirected = False
        elif found[-1] or not re.match(r"[A-Z_]+=", word):
            found[-1].append(word)
    return found
