"""Errors are one sentence without a period at its end, and docstrings of the video room mark code as all others do."""

import ast
import re

import pytest

from tests.test_architecture import SOURCES, inside

ERRORS = {"RirnError", "BrokenStream", "WrongValueError"}


def ends(node):
    """The last words of a message, of each form that it may have."""
    if isinstance(node, ast.IfExp):
        return ends(node.body) + ends(node.orelse)
    if isinstance(node, ast.BinOp):
        return ends(node.right)
    if isinstance(node, ast.JoinedStr):
        return ends(node.values[-1])
    return [node.value] if isinstance(node, ast.Constant) else []


def messages(tree):
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    return [end for call in calls if getattr(call.func, "id", "") in ERRORS for end in ends(call.args[0])]


def test_messages_end_without_a_period():
    found = {name: messages(ast.parse(path.read_text("utf-8"))) for name, path in SOURCES.items()}
    assert sum(map(len, found.values())) > 100
    assert [(name, m) for name, said in found.items() for m in said if re.search(r"(?<!\.\.)\.$", m)] == []


@pytest.mark.parametrize("name", [name for name in SOURCES if inside(name, "rirn.video")])
def test_docstrings_mark_code_with_two_backticks(name):
    tree = ast.parse(SOURCES[name].read_text("utf-8"))
    texts = [
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    assert re.findall(r"(?<!`)`(?!`)[^`]+`(?!`)", "\n".join(map(str, texts))) == []
