"""The state of every model stays bounded over 2,000 frames, in float32 and in bf16, with random and with shipped weights."""

import math

import pytest
import torch

from rirn.weights import shipped
from tests.models.cases import NAMES
from tests.models.stability import FRAMES, SIDE, halves

GROWTH = 1.05
"""How much larger the state may be in the second half of the video than it ever was in the first: what grows with the number of
frames doubles."""


def check(name, side, frames):
    sizes, squares = halves(name, side, frames)
    for precision, (first, second) in sizes.items():
        assert math.isfinite(first) and math.isfinite(second), precision
        assert second <= GROWTH * first, f"{precision}: {first:.3g} and then {second:.3g}"
    assert all(map(math.isfinite, squares))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*shipped(), *NAMES])
def test_the_state_stays_bounded(name):
    check(name, SIDE, FRAMES)


@pytest.mark.parametrize("name", ["gru", "strcnn+rirn"])
def test_the_state_stays_bounded_in_a_short_video(name):
    check(name, 8, 120)


def test_a_state_that_grows_is_seen(monkeypatch):
    """A counter in the place of a state."""
    count = [0]

    def growing(*args, **options):
        for _ in range(100):
            count[0] += 1
            state = {"base.0": torch.full((2, 1, 2, 2), float(count[0]))}
            yield torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), state, state

    monkeypatch.setattr("tests.models.stability.both", growing)
    with pytest.raises(AssertionError, match="and then"):
        check("gru", 8, 100)
