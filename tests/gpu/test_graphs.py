"""Steps as CUDA graphs give the bits of steps without one."""

import re
from pathlib import Path

import pytest
import torch

from rirn import GraphedStep
from tests.models.cases import small
from tests.models.test_graphed import MODELS, check

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cuda-graphs.md"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: CUDA graphs are of a GPU alone")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", MODELS)
def test_replays_equal_steps(name, dtype):
    model = small(name, dtype).to("cuda").eval()
    step = GraphedStep(model)
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(model.delay + 8, 1, 3, 24, 40, generator=generator).to("cuda", dtype)
    with torch.inference_mode():
        check(model, step, video)
        for _ in range(3):
            check(model, step, video[: model.delay + 2])
    assert step.replays >= 3, step.reason


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: CUDA graphs are of a GPU alone")
def test_the_example_of_the_page_runs():
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    exec(compile(code, PAGE.name, "exec"), {})
