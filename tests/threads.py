"""A fixture that the conftest.py of a room imports to have its tests run on one thread."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """With more, threads of a busy machine wait for each other longer than small networks compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
