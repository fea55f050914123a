import numpy as np
import pytest

from rirn.data import Shake, shake_photo, write_sequence


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two sequences of six frames, 56x48, of a camera shaking in front of coarse noise."""
    folder = tmp_path_factory.mktemp("data")
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    photo = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    for i in range(2):
        pairs = shake_photo(
            photo, np.random.default_rng(i), size=(48, 56), frames=6, shake=Shake(tremor=3, drift=1)
        )
        write_sequence(folder / f"s{i}", pairs)
    return folder
