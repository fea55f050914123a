"""What the benchmark measures with: cases, errors, work, memory, clocks. No assertion about time."""

import functools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rirn.bench import limits
from rirn.bench.cases import Case, Sizes, select
from rirn.bench.measure import Competitor, Entrant, Options, competitors, gradient_error, measure, value_error
from rirn.bench.options import PASSES
from rirn.bench.subjects import Apply, Subject, make, on_library, tensors, work
from rirn.measure import memory
from rirn.measure.timing import CpuClock, Job, alternate, spread
from rirn.ops import atb_blend, available_backends, use_backend
from rirn.ops.spec import OPS

CPU = torch.device("cpu")
OPTIONS = Options(CPU, CpuClock(), ("forward",), 1, 1.0, False)


def case(group, name, channels=None, dtype="fp32", size=(12, 8), **more):
    return Case(group, name, channels, *size, dtype, **more)


@pytest.mark.parametrize("name", ["irm_update", "ifi-rnn+rirn"])
def test_the_library_form_has_no_detour_through_float32(name):
    """And it is the same function, its parameters in the same order."""
    subject = make(case(*(("ops", name, 4) if name in OPS else ("models", name)), dtype="bf16"))
    library = on_library(subject)
    assert [p.shape for p in library.module.parameters()] == [p.shape for p in subject.module.parameters()]
    shapes = {}
    for which, s in (("library", library), ("reference", subject)):
        with torch.no_grad(), use_backend("reference"), Casts() as casts:
            s.module(*s.inputs)
        shapes[which] = casts.to_float32
    assert not shapes["library"] and shapes["reference"]
    wide, plain = (s.to(CPU, torch.float64) for s in (library, subject))
    with torch.no_grad(), use_backend("reference"):
        found, want = (tensors(s.module(*s.inputs)) for s in (wide, plain))
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


class Casts(TorchDispatchMode):
    """Whether weights of convolutions are widened to float32."""

    def __init__(self):
        super().__init__()
        self.to_float32 = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ == "_to_copy" and kwargs.get("dtype") == torch.float32:
            self.to_float32 |= args[0].shape[2:] == (3, 3)
        return func(*args, **kwargs)


def test_selection():
    def names(*args):
        return [c.name for together in select(*args, ["fp32"], Sizes()) for c in together]

    assert names([], ["irm_update"], []) == ["irm_update"] * 2
    assert names([], ["ATB"], ["rdbn"]) == ["ATB", "rdbn"]
    assert names(["ratios"], [], ["stfan", "gru+rirn"]) == ["stfan", "stfan+rirn", "gru", "gru+rirn"]
    assert len(names(["ratios"], [], [])) == 14
    assert names([], [], [])[-1] == "ifi-rnn+rirn"
    (first,) = select(["train"], [], [], ["bf16"], Sizes(clip=(3, 5, 16, 24)))[0]
    assert str(first) == "ifi-rnn+rirn train 3x5x16x24 bf16"
    assert (first.batch, first.frames, first.height, first.width) == (3, 5, 16, 24)


def test_every_tensor_counts():
    truth = [torch.linspace(-1, 1, 10).double(), torch.ones(10).double()]
    assert gradient_error(truth, truth) == 0 == value_error(truth[:1], truth[:1])
    assert gradient_error([truth[0], 1.5 * truth[1]], truth) == pytest.approx(0.5)
    assert gradient_error([truth[0], truth[1] * torch.nan], truth) == math.inf
    assert value_error([truth[0] * torch.nan], truth[:1]) == math.inf
    one_off = truth[0].clone()
    one_off[3] += 0.25
    assert value_error([one_off], truth[:1]) == pytest.approx(0.25)


def test_an_offset_does_not_hide_errors():
    image = 0.5 + 0.01 * torch.linspace(-1, 1, 9).double()
    assert value_error([image + 1e-3], [image]) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["conv3x3_chain", "irm_update"])
def test_inputs_keep_activations_off_the_kink(name):
    subject = make(case("ops", name, 20, size=(30, 40))).to(CPU, torch.float64)
    results = []
    for noise in (0, 1e-3):  # far more than rounding
        with torch.no_grad():
            subject.inputs[0].add_(noise * torch.randn_like(subject.inputs[0]))
        (out,) = tensors(subject.module(*subject.inputs))
        results.append(torch.autograd.grad(out, subject.inputs[0], torch.ones_like(out))[0])
    torch.testing.assert_close(*results)  # the network is linear between the kinks


def test_copies_have_the_same_values_and_the_layout_asked_for():
    subject = make(case("models", "ifi-rnn+rirn"))
    copied = subject.to(CPU, torch.float64, "channels_last")
    frame, state = copied.inputs
    assert frame.is_contiguous(memory_format=torch.channels_last) and not frame.is_contiguous()
    assert len(tensors(state)) == 3 and frame.dtype == state.inner.dtype == torch.float64
    assert copied.module.model.base.decoder[-1].weight.dtype == torch.float64
    for a, b in zip(tensors(subject.inputs), tensors(copied.inputs), strict=True):
        assert torch.equal(a.double(), b) and a.data_ptr() != b.data_ptr()
    again = make(case("models", "ifi-rnn+rirn"))
    assert all(map(torch.equal, tensors(subject.inputs), tensors(again.inputs)))


def test_a_network_with_look_ahead_is_timed_with_its_delay_filled():
    (image, state) = (s := make(case("models", "strcnn"))).module(*s.inputs)
    assert image.shape == (1, 3, 12, 8) and len(state.frames) == 2


def test_who_competes():
    found = competitors(case("models", "ifi-rnn", dtype="bf16"), OPTIONS._replace(compiled=True))
    assert [str(c) for c in found] == [
        "reference",
        "fp32 reference",
        "compiled reference",
        "compiled reference channels_last",
        "auto",
        "auto channels_last",
    ]
    (*gpu,) = competitors(
        case("models", "ifi-rnn", dtype="bf16"), OPTIONS._replace(device=torch.device("cuda"))
    )
    assert [str(c) for c in gpu[:3]] == ["reference", "reference channels_last", "fp32 reference"]
    assert "triton" not in [c.name for c in competitors(case("ops", "fac", 4), OPTIONS)]
    assert {c.layout for c in competitors(case("ops", "atb_blend", 4), OPTIONS)} == {"NCHW"}


def test_each_competitor_runs_on_its_backend(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "rirn.bench.measure.use_backend", lambda name: (asked.append(name), use_backend(name))[1]
    )
    measure([case("modules", "ATB", 4)], OPTIONS)
    assert set(asked) == {"reference", "auto"}


def test_the_compiled_reference_takes_part(monkeypatch):
    # The same way through torch.compile, without a C++ compiler at its end.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    options = OPTIONS._replace(compiled=True, passes=PASSES)
    results = measure([case("ops", "conv3x3_chain", 2, size=(3, 5))], options)
    rows = [r for r in results if r.competitor.compiled]
    assert [(r.passes, r.competitor.layout) for r in rows] == [
        (passes, layout) for passes in PASSES for layout in ("NCHW", "channels_last")
    ]
    assert all(r.time is not None and r.errors.gradient < 1e-5 for r in rows)


def test_work_of_ops_without_convolutions():
    blend = case("ops", "atb_blend", 2, size=(3, 5))
    assert [work(blend, p).bytes // 120 for p in ("forward", "backward", "forward+backward")] == [5, 9, 14]
    assert work(blend, "forward").flops == OPS["atb_blend"].operations * 30
    assert work(case("ops", "atb_blend", 2, "bf16", (3, 5)), "forward").bytes == 5 * 30 * 2


def test_work_of_convolutions():
    block = case("ops", "conv3x3_chain", 4, size=(6, 8))
    macs = 2 * 9 * 4 * 4 * 6 * 8
    assert work(block, "forward").flops == 2 * macs
    assert work(block, "backward").flops == 4 * macs
    assert work(block, "forward+backward").flops == 6 * macs
    assert work(block, "forward").bytes == 4 * (2 * 4 * 6 * 8 + 2 * (9 * 4 * 4 + 4))


def test_saved_bytes_count_storages_once_and_no_parameters():
    weight, x = torch.randn(4, 4, requires_grad=True), torch.randn(8, 4)

    def forward():
        y = x @ weight  # saves x and the parameter
        return y * y + y[:2].sum().sin()  # saves y twice, and the sum

    assert memory.saved_bytes(forward, [weight]) == 8 * 4 * 4 + 8 * 4 * 4 + 4


def test_peak_memory_sees_what_a_call_frees_again():
    size = 2**24

    def call():
        torch.ones(size, dtype=torch.uint8)
        return torch.ones(size // 4, dtype=torch.uint8)

    call()
    peak = memory.peak_bytes(call, CPU)
    if peak is None:
        pytest.skip("this system does not tell")
    assert 0.9 * size < peak < 1.6 * size
    assert memory.peak_bytes(lambda: torch.ones(2), CPU) < size / 8


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_peak_memory_has_the_result_in_it(backend):
    if backend not in available_backends("atb_blend"):
        pytest.skip("there is no CPU kernel")
    f = torch.ones(1, 16, 256, 1024)  # 16 MiB

    def call():
        return atb_blend(f, f, f, f, backend=backend)

    call()
    peak = memory.peak_bytes(call, CPU)
    if peak is None:
        pytest.skip("this system does not tell")
    assert peak > 0.9 * f.nbytes


def test_everyone_is_called_in_every_round():
    calls = []
    jobs = {name: Job(lambda _, name=name: calls.append(name)) for name in "ab"}
    times = alternate(jobs, CpuClock(), 3, 60)
    assert set(times) == set(calls) == {"a", "b"} and {t.rounds for t in times.values()} == {3}
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.5, 2.5, 3)
    assert spread([4.0]) == (4.0, 4.0, 4.0, 1)


def test_preparations_are_not_timed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rirn.measure.timing.time.perf_counter", lambda: now[0])

    def spend(seconds):
        now[0] += seconds
        return seconds

    job = Job(lambda prepared: spend(2 * prepared), lambda: spend(1.0))
    assert CpuClock().sample(job, 3) == 2.0
    slow = {"a": job, "b": Job(lambda _: spend(8.0))}
    assert alternate(slow, CpuClock(), 20, 50)["a"] == (2000, 2000, 2000, 5)
    assert alternate(slow, CpuClock(), 20, 1)["b"].rounds == 3


def test_limits_are_measured():
    found = limits.measure(CPU, CpuClock(), ["bf16", "fp16"], quick=True)
    assert set(found) == {"copy", "fp32", "bf16"} and all(0 < v < math.inf for v in found.values())
    assert limits.product({"fp32": 100, "bf16": 20}, "bf16") == 100 == limits.product({"fp32": 100}, "fp16")
    assert limits.product({"fp32": 100, "bf16": 200}, "bf16") == 200


def test_gradients_flow_into_every_output():
    subject = Subject(Apply(lambda x: (x, 2 * x)), (torch.ones(3, requires_grad=True),))
    entrant = Entrant(Competitor("reference", "reference"), subject, case("ops", "fac", 1), CPU)
    (grad,) = entrant.backward(entrant.forward())
    first, second = entrant.gradients
    torch.testing.assert_close(grad, first + 2 * second)
