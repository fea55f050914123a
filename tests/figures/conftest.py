"""One thread for the small networks here, and a data set that several files share."""

import numpy as np
import pytest

from rirn.data import write_sequence
from tests.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="package")
def data(tmp_path_factory):
    """Two sequences of twelve 26x34 frames, noise on smooth ground; figures show 24x32 of them."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        sharp = rng.integers(0, 256, (12, 26, 34, 3), np.uint8)
        write_sequence(folder / name, [(s // 2 + 60, s) for s in sharp])
    return folder
