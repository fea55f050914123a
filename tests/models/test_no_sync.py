"""A streaming step never waits for the device and asks the host for nothing, so that a CUDA graph can hold it.

Tensors without data stand in for a GPU: on the device ``meta`` nothing can be read back, and a dispatch mode sees what is copied
there. Where torch has CUDA, fake CUDA tensors take the same way; a CPU-only torch cannot index those.
"""

import contextlib

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rirn import create_model
from rirn.nn.convolutions import _transposed
from rirn.ops._library import library
from rirn.ops.backends import assume
from rirn.ops.spec import OPS
from rirn.training.losses import psnr_loss
from tests.models.cases import quick
from tests.ops.calls import Recorder

pytestmark = pytest.mark.skipif(not library().loaded, reason=str(library().reason))

WAITS = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "equal",
    "bincount",
}
"""Library calls whose result the host has to wait for."""

FROM_HOST = {torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy}


class NoHostData(TorchFunctionMode):
    """Refuses tensors made of Python's numbers, which a GPU gets in a copy that the host waits for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func not in FROM_HOST, f"{func} goes between the host and the device"
        return func(*args, **(kwargs or {}))


class NoSync(TorchDispatchMode):
    """Refuses calls that wait for the device, or that move or mix tensors of different devices.

    A number of no dimensions on the CPU may go into arithmetic: it travels with the launch.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{func} waits for the device"
        results = {t.device.type for t in tree_leaves(out) if isinstance(t, torch.Tensor)}
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        moves = name in ("_to_copy", "copy_", "_copy_from", "lift_fresh_copy")
        devices = {t.device.type for t in read if moves or t.dim() or t.device.type != "cpu"} | results
        assert len(devices) <= 1 and "cpu" not in devices, f"{func} goes between {sorted(devices)}"
        return out


FEW = [
    "ifi-rnn+rirn",
    "strcnn+rirn",
    "stfan+rirn",
    "rdbn+gsa",
    "estrnn",
    "gru+rirn",
    "lstm+irm",
    "ifi-rnn+dtb",
]


@contextlib.contextmanager
def no_sync():
    with NoHostData(), NoSync():
        yield


@pytest.fixture(params=["meta", "cuda"])
def device(request):
    """A device without data whose name is the default in the test; kernels are assumed to run there."""
    fake = request.param == "cuda"
    if fake and not torch.backends.cuda.is_built():
        pytest.skip(
            "this torch was built without CUDA: it can neither index fake CUDA tensors nor differentiate"
        )
    with FakeTensorMode() if fake else contextlib.nullcontext(), torch.device(request.param), assume("cuda"):
        yield request.param


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x * torch.tensor([1.0, 2.0], device=x.device),
        lambda x: torch.ones(2, device="cpu").to(x.device),
        lambda x: torch.empty_like(x, device="cpu").copy_(x),
    ],
)
def test_the_guard_sees_copies(call, device):
    x = torch.empty(2)
    with pytest.raises(AssertionError, match="goes between"), no_sync():
        call(x)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.to("cpu"),
        lambda x: x.tolist(),
    ],
)
def test_reading_back_is_refused(call, device):
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError)), no_sync():
        call(torch.empty(2))


@pytest.mark.parametrize("name", quick(*FEW))
def test_a_step_asks_the_host_for_nothing(name, device):
    check_steps(name, device, **({"blocks": 2} if name.startswith(("rdbn", "estrnn")) else {}))


def test_nor_does_one_with_options(device):
    check_steps("ifi-rnn+rirn", device, residual=True, atb_decay=0.9)


def check_steps(name, device, **options):
    model = create_model(name, width=0.1, **options).eval()
    state = None
    with torch.no_grad(), no_sync():
        for _ in range(model.delay + 2):
            sharp, state = model.step(torch.empty(2, 3, 20, 36), state)
    assert sharp.shape == (2, 3, 20, 36) and sharp.device.type == device
    assert {t.device.type for t in state.tensors().values()} == {device}


@pytest.fixture
def half():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.half)
    yield
    torch.set_default_dtype(before)


def test_odd_sizes_and_half_precision(half, device):
    model = create_model("ifi-rnn+rirn", width=0.1).eval()
    state = None
    with torch.no_grad(), no_sync():
        for _ in range(2):
            sharp, state = model.step(torch.empty(1, 3, 13, 141), state)
    assert sharp.shape == (1, 3, 13, 141) and sharp.dtype == torch.half
    assert {t.dtype for t in state.tensors().values()} == {torch.half}


def test_a_training_step(device):
    """Forward, loss, backward and Adam: every gradient is like its parameter, and the ops of all modules take part."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("autograd asks for the GPU of CUDA tensors, fake ones too, and torch sees none here")
    model = create_model("ifi-rnn+rirn", width=0.1)
    optimizer = torch.optim.Adam(model.parameters(), capturable=device == "cuda")
    with Recorder() as record:
        restored = model(torch.empty(1, 3, 3, 20, 260))
        loss = psnr_loss(restored, torch.empty(1, 3, 3, 20, 260))
        loss.backward()
        # Before torch 2.13 Adam counts its steps on the default device, and reads them back.
        with torch.device("cpu" if device == "meta" else device):
            optimizer.step()
    assert loss.shape == () and loss.dtype == torch.float32
    for parameter in model.parameters():
        grad = parameter.grad
        assert grad.device.type == device
        assert (grad.shape, grad.dtype, grad.stride()) == (
            parameter.shape,
            parameter.dtype,
            parameter.stride(),
        )
    fused = record.called & set(OPS)
    assert len(fused) >= 2 and {f"{op}_backward" for op in fused} <= record.called


@pytest.mark.parametrize("kernel", [3, 4])
def test_phases_of_a_transposed_convolution_are_made_where_the_weight_is(kernel):
    with no_sync():
        made = _transposed(torch.empty(5, 6, kernel, kernel, device="meta"))
    assert made.shape == (24, 5, 3, 3)
    layer = nn.ConvTranspose2d(2, 3, kernel, stride=2, padding=1, output_padding=4 - kernel, bias=False)
    x = torch.randn(1, 2, 5, 6)
    phases = torch.nn.functional.conv2d(x, _transposed(layer.weight), padding=1)
    torch.testing.assert_close(torch.nn.functional.pixel_shuffle(phases, 2), layer(x))
