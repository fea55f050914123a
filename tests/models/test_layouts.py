"""Steps in the memory format that suits a GPU, from frames to states, without a GPU: on meta tensors, and by value."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rirn.models import graphed
from rirn.models.base import is_channels_last
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.registry import BASES
from rirn.ops.backends import assume
from tests.models.cases import small, video

MODELS = [*(f"{base}+rirn" for base in BASES), "ifi-rnn+dtb", "rdbn+gsa"]
HALF = {"residual": True, "half_resolution": True}
CASES = [(name, {}) for name in MODELS] + [("ifi-rnn+rirn", HALF | {"past": 2, "future": 2})]
CUDA = torch.device("cuda")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """As if every device was one, for the memory format alone."""
    there = VideoDeblurrer.layout_on
    monkeypatch.setattr(VideoDeblurrer, "layout_on", lambda self, device: there(self, CUDA))


class Layouts(TorchDispatchMode):
    """Which results are images in which memory format, by the names of the torch ops that made them; the convolutions of meta
    tensors are made to give the format that cuDNN's do: channels_last if the image or the weight is."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, result = func.overloadpacket.__name__, func(*args, **(kwargs or {}))
        if name == "convolution" and any(is_channels_last(t) and not t.is_contiguous() for t in args[:2]):
            result = torch.empty_like(result, memory_format=torch.channels_last)
        for image in result if isinstance(result, (tuple, list)) else [result]:
            if (
                isinstance(image, torch.Tensor)
                and image.dim() == 4
                and image.shape[1] > 4
                and image.shape[2] > 3
            ):
                last = image.is_contiguous(memory_format=torch.channels_last)
                self.found.add((name, last or not image.is_contiguous()))
        return result


@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=lambda value: "half" if "past" in value else str(value)
)
def test_every_image_of_a_step_is_in_the_format_of_the_model(name, options, on_a_gpu):
    model = small(name, torch.half, **options).to("meta")
    state, frame = None, torch.empty(1, 3, 64, 96, dtype=torch.half, device="meta")
    if "stfan" in name:  # whose frames must come out of the format that pixels are read in
        frame = frame.contiguous(memory_format=torch.channels_last)
    with assume("cuda"), torch.no_grad():
        for _ in range(model.delay + 2):
            with Layouts() as layouts:
                _, state = model.step(frame, state)
    assert {"conv3x3_chain", "convolution"} <= {op for op, _ in layouts.found}
    assert {last for _, last in layouts.found} == {"stfan" not in name}, sorted(layouts.found)
    last = [
        is_channels_last(image)
        for image in state.tensors().values()
        if image.dim() == 4 and image.shape[1] > 3
    ]
    assert last and set(last) == {"stfan" not in name}


@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=lambda value: "half" if "past" in value else str(value)
)
def test_the_images_are_the_same(name, options, monkeypatch):
    model, frames = small(name, **options), video(4, 1, 3, 20, 36)

    def restored(model):
        state, images = None, []
        for frame in frames:
            image, state = model.step(frame, state)
            images += [] if image is None else [image]
        return torch.cat([*images, *model.flush(state)])

    expected = restored(model)
    there = VideoDeblurrer.layout_on
    monkeypatch.setattr(VideoDeblurrer, "layout_on", lambda self, device: there(self, CUDA))
    stepped = graphed.ready(model, torch.device("cpu"), torch.float64)
    assert is_channels_last(next(p for p in stepped.parameters() if p.dim() == 4 and p.shape[1] > 1)) == (
        "stfan" not in name
    )
    torch.testing.assert_close(restored(stepped), expected, rtol=0, atol=1e-12)


def test_on_a_cpu_frames_stay_as_they_are():
    model = small("ifi-rnn+rirn")
    assert model.layout_on(torch.device("cpu")) is None
    with Layouts() as layouts, torch.no_grad():
        model.step(video(1, 3, 64, 96), None)
    assert ("conv3x3_chain", True) not in layouts.found
