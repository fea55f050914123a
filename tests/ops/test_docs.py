"""docs/ops.md is what the docstrings of rirn.ops say."""

import rirn.ops
from rirn.ops.spec import OPS
from tests.ops import page


def test_the_page_is_that_of_the_docstrings():
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.written(text), "run `python -m tests.ops.page`"


def test_the_page_begins_with_all_ops():
    """And with what it says of their forms."""
    head = page.PAGE.read_text(encoding="utf-8").partition(page.BEGIN)[0]
    assert [name for name in OPS if f"[`{name}`](#{name})" not in head] == []
    assert "All seven ops have all forms." in head and len(OPS) == 7
    for room, suffix in (("csrc/cpu", "cpp"), ("csrc/cuda", "cu")):
        sources = "".join(path.read_text() for path in (page.ROOT / room).glob(f"*.{suffix}"))
        assert [name for name in OPS if f'"{name}"' not in sources] == []


def test_all_ops_are_public():
    assert set(OPS) <= set(rirn.ops.__all__)
