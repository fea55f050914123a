"""docs/training.md describes every recipe."""

import re
from pathlib import Path

from rirn.training.recipes import recipes

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_all_recipes_are_described():
    assert set(recipes()) <= set(re.findall(r"`([\w-]+)`", TEXT))
