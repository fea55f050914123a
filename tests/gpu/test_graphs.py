"""Steps in a CUDA graph give the bits of steps without one."""

import re
from pathlib import Path

import pytest
import torch

from tests.gpu.static_step import StaticStep
from tests.models.cases import small

MODELS = ["ifi-rnn+rirn", "rdbn+rirn", "strcnn+rirn", "stfan+rirn", "estrnn", "gru+rirn", "lstm+irm"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "cuda-graphs.md"


@pytest.mark.parametrize("name", MODELS)
def test_replays_equal_steps(name, device):
    for dtype in (torch.float32, torch.float16) if device == "cuda" else (torch.float32,):
        model = small(name, dtype).to(device)
        generator = torch.Generator().manual_seed(1)
        video = torch.rand(model.delay + 6, 1, 3, 24, 40, generator=generator).to(device, dtype)
        check(model, video)


def check(model, video):
    """Frames and states of replays are those of plain steps from the same state on."""
    state, full = None, model.delay + 2
    for frame in video[:full]:
        _, state = model.step(frame, state)
    static = StaticStep(model, video[-1], state)
    for frame in video[full:]:
        sharp, state = model.step(frame, state)
        assert torch.equal(static(frame), sharp)
    for (name, got), want in zip(static.state.tensors().items(), state.tensors().values(), strict=True):
        assert torch.equal(got, want), name


def blocks():
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_page_has_an_example_that_compiles():
    (code,) = blocks()
    compile(code, PAGE.name, "exec")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: CUDA graphs are of a GPU alone")
def test_the_example_runs():
    (code,) = blocks()
    exec(compile(code, PAGE.name, "exec"), {})
