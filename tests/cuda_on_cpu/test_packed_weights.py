"""Weights that are brought in the order of the tensor cores once for several calls, run on the CPU."""

from __future__ import annotations

import contextlib
import threading
from unittest import mock

import pytest
import torch

from rirn import create_model
from rirn.models import deblurrer, graphed
from rirn.ops import _register, packed, use_backend
from rirn.ops.packed import keep_packed
from tests.cuda_on_cpu import test_atb_update as atb
from tests.cuda_on_cpu import test_irm_update as irm
from tests.cuda_on_cpu.harness import launches
from tests.cuda_on_cpu.test_conv3x3_chain import BLOCK, WIDE
from tests.ops.cases import Case, irm_inputs

pytestmark = pytest.mark.usefixtures("emulator")


@contextlib.contextmanager
def kept():
    torch.ops.rirn_on_cpu.open_packed()
    try:
        yield
    finally:
        torch.ops.rirn_on_cpu.close_packed()


def chain_call(chain, dtype="fp16"):
    arguments = *chain.tensors(Case(1, 0, 3, 4, dtype)), *chain.options
    return lambda: torch.ops.rirn_on_cpu.conv3x3_chain(*arguments), arguments[1]


def irm_call(c, dtype="bf16"):
    inputs = [t.detach() for t in irm_inputs(Case(1, c, 2, 3, dtype))]
    return lambda: irm.update(inputs), [t for t in inputs if t.dim() == 4 and t.shape[-1] == 3 == t.shape[-2]]


def packs(call):
    return sum("conv3x3_pack" in name for name in launches(call))


CALLS = {
    "chain": lambda: chain_call(BLOCK),
    "wide chain": lambda: chain_call(WIDE, "bf16"),
    "irm_update in three launches": lambda: irm_call(16),
    "irm_update": lambda: irm_call(12, "fp16"),
}


@pytest.mark.parametrize("name", CALLS)
def test_once_for_all_calls(name):
    call, _ = CALLS[name]()
    want = call()
    assert packs(call) == 1
    with kept():
        assert packs(call) == 1
        assert packs(call) == 0
        assert torch.equal(call(), want)
    assert packs(call) == 1


@pytest.mark.parametrize("name", CALLS)
def test_weights_that_changed_are_seen(name):
    """By the next call where nothing is kept, by those after pack_again where something is."""
    call, weights = CALLS[name]()
    before = call()
    with kept():
        call()
        for weight in weights:
            weight.neg_()
        assert packs(torch.ops.rirn_on_cpu.pack_again) == 1
        found = call()
    want = call()
    assert torch.equal(found, want) and not torch.equal(want, before)


def test_atb_update_keeps_its_weights():
    case = Case(1, 8, 2, 3, "fp16")
    want = atb.update(case)
    with kept():  # its tensors are made anew in every call: held, so that none takes the place of one before
        for _ in range(3):
            assert torch.equal(atb.update(case), want)
        assert packs(torch.ops.rirn_on_cpu.pack_again) == 1


def test_backward_keeps_its_weights():
    arguments = *BLOCK.tensors(Case(1, 0, 3, 4, "fp16")), *BLOCK.options
    grad = torch.randn(1, 16, 3, 4, generator=torch.Generator().manual_seed(1)).half()

    def call():
        return torch.ops.rirn_on_cpu.conv3x3_chain_backward(grad, *arguments, 0b11111)

    want = call()
    with kept():
        torch.ops.rirn_on_cpu.conv3x3_chain(*arguments)
        assert packs(call) == 1  # of the weights turned round
        assert packs(call) == 0
        assert all(torch.equal(a, b) for a, b in zip(call(), want, strict=True))


def test_a_temporary_weight_is_not_taken_for_another_at_its_address():
    inputs, weights, biases = BLOCK.tensors(Case(1, 0, 3, 4, "fp16"))

    def call(scale):
        return torch.ops.rirn_on_cpu.conv3x3_chain(
            inputs, [w * scale for w in weights], biases, *BLOCK.options
        )

    want = [call(scale) for scale in range(8)]
    with kept():
        for scale in range(8):
            assert torch.equal(call(scale), want[scale])


def test_many_weights_in_few_launches():
    calls = [chain_call(BLOCK)[0] for _ in range(31)]
    with kept():
        for call in calls:
            call()
        assert packs(torch.ops.rirn_on_cpu.pack_again) == 2  # 62 weights
    with kept():
        assert packs(torch.ops.rirn_on_cpu.pack_again) == 0  # of none


def test_blocks_lie_in_one_another_and_in_their_threads():
    call, _ = chain_call(BLOCK)
    with kept():
        call()
        with kept():
            assert packs(call) == 1
        assert packs(call) == 0
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(packs(call)))
        thread.start()
        thread.join()
        assert elsewhere == [1]


@pytest.mark.parametrize("op", ["pack_again", "close_packed"])
def test_nothing_is_open(op):
    with pytest.raises(RuntimeError, match=f"{op} belongs behind open_packed"):
        getattr(torch.ops.rirn_on_cpu, op)()


def test_what_is_closed_returns_weights_and_memory():
    call, weights = chain_call(BLOCK)
    torch.ops.rirn_on_cpu.open_packed()
    call()
    call()
    held = torch.ops.rirn_on_cpu.close_packed()
    assert [t.data_ptr() for t in held[:2]] == [w.data_ptr() for w in weights]
    assert [t.dtype for t in held[2:]] == [torch.uint8] * 2


@pytest.fixture
def on_gpu(monkeypatch):
    """A GPU, whose calls keep what the ops of these tests pack."""
    monkeypatch.setattr(packed, "_has_kernels", lambda: True)
    monkeypatch.setattr(packed, "_ops", lambda: torch.ops.rirn_on_cpu)
    return torch.device("cuda")


def test_a_graph_packs_all_weights_first_and_in_one_launch(emulator, on_gpu, monkeypatch):
    calls = [chain_call(BLOCK) for _ in range(3)]
    captured = []

    @contextlib.contextmanager
    def graph(*args, **kwargs):
        emulator.take_launches()
        yield
        captured.extend(launch.kernel.partition("<")[0] for launch in emulator.take_launches())

    for name in ("Stream", "current_stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, mock.MagicMock())
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *args: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", graph)
    replay, results = graphed._capture(lambda: [call() for call, _ in calls], on_gpu)
    assert captured == ["conv3x3_pack", *["conv3x3_mma"] * 6]
    assert all(torch.equal(result, call()) for result, (call, _) in zip(results, calls, strict=True))
    weights = {w.data_ptr() for _, pair in calls for w in pair}
    held = {t.data_ptr() for t in replay.args[1]}
    assert weights < held and len(held) == 2 * len(weights)
    replay()
    torch.cuda.CUDAGraph().replay.assert_called_once()


def test_a_clip_packs_each_weight_once(on_gpu, monkeypatch):
    monkeypatch.setattr(_register, "form", lambda op, backend: getattr(torch.ops.rirn_on_cpu, op))
    monkeypatch.setattr(deblurrer, "keep_packed", lambda device: keep_packed(on_gpu))
    torch.manual_seed(0)
    model = create_model("ifi-rnn+irm", width=0.2).bfloat16().eval()
    clip = torch.rand(1, 3, 3, 8, 12).bfloat16()
    with torch.no_grad(), use_backend("cpu"):
        one = packs(lambda: model(clip[:, :1]))
        assert one > 1
        assert packs(lambda: model(clip)) == one
        found = model(clip)
        monkeypatch.setattr(deblurrer, "keep_packed", contextlib.nullcontext)
        assert packs(lambda: model(clip)) > one
        assert torch.equal(model(clip), found)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_other_devices_keep_nothing(on_gpu, device):
    with keep_packed(torch.device(device)) as kept:
        kept.again()
        with pytest.raises(RuntimeError, match="belongs behind open_packed"):
            torch.ops.rirn_on_cpu.pack_again()
    assert kept.held == []
