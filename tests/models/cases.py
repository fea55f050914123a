"""Models and videos that several test files share."""

import pytest
import torch

from rirn import create_model, model_names

NAMES = model_names()


def small(name, dtype=torch.float64, **options):
    """Return a narrow, shallow model in evaluation mode, with the same weights at each call.

    Batch norms get statistics of their own and a scale of one: fresh statistics, and the zero that blocks start with, hide
    mistakes.
    """
    torch.manual_seed(0)
    if name.startswith(("rdbn", "estrnn", "mmp-rnn")):
        options["blocks"] = 2
    if name.startswith("mmp-rnn"):
        options["head_blocks"] = 2
    model = create_model(name, width=0.1, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.ones_(module.weight)
    return model.to(dtype).eval().requires_grad_(False)


def video(*shape, seed=1):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def quick(*names, among=NAMES):
    """All names, those that are not to run in every test run marked as slow."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in among]
