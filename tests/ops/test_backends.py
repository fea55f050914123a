"""The choice of a backend: who asked, what can run, and in which words it is refused."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from rirn.errors import RirnError
from rirn.ops import atb_blend, available_backends, backends, conv3x3_chain, explain, use_backend, why_not
from rirn.ops._library import Library, library
from rirn.ops.spec import OPS
from tests.ops.calls import arguments, call
from tests.ops.cases import Case

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)


@pytest.fixture
def facts(monkeypatch):
    """Return a function that replaces what is known of the machine; results cached before and in between are dropped."""

    def pretend(library=None, gpu=None, capability=(9, 0)):
        if library is not None:
            monkeypatch.setattr(backends, "library", lambda: library)
        monkeypatch.setattr(backends, "why_no_gpu", lambda: gpu)
        monkeypatch.setattr(backends, "_why_no_kernel", lambda op, key: None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        backends._pick_once.cache_clear()

    monkeypatch.setattr(backends, "_environment", "auto")
    yield pretend
    backends._pick_once.cache_clear()


COMPILED = Library(path="_C.abi3.so", build={"cuda_archs": ["8.0", "9.0"]})
CPU_ONLY = Library(path="_C.abi3.so", build={"cuda_archs": []})
NONE = Library(reason="it was not compiled: reinstall it")


def test_order_argument_context_environment(facts, monkeypatch):
    facts(COMPILED)
    assert backends.choose("atb_blend", CPU) == "cpu"
    monkeypatch.setattr(backends, "_environment", "reference")
    assert backends.choose("atb_blend", CPU) == "reference"
    with use_backend("cpu"):
        assert backends.choose("atb_blend", CPU) == "cpu"
        with use_backend("auto"):
            assert backends.choose("atb_blend", CPU) == "cpu"
        assert backends.choose("atb_blend", CPU, "reference") == "reference"
    assert backends.choose("atb_blend", CPU) == "reference"
    assert backends.choose("atb_blend", CPU, "auto") == "cpu"


@pytest.mark.parametrize(
    ("library", "gpu", "capability", "on_cpu", "on_cuda"),
    [
        (COMPILED, None, (8, 6), "cpu", "cuda"),
        (COMPILED, None, (12, 0), "cpu", "triton"),
        (CPU_ONLY, None, (8, 0), "cpu", "triton"),
        (NONE, None, (8, 0), "reference", "triton"),
        (NONE, "torch sees no CUDA device here", (8, 0), "reference", "reference"),
    ],
)
def test_auto(facts, monkeypatch, library, gpu, capability, on_cpu, on_cuda):
    pytest.importorskip("triton")
    facts(library, gpu, capability)
    assert backends.choose("atb_blend", CPU) == on_cpu
    assert backends.choose("atb_blend", CUDA) == on_cuda
    assert backends.choose("atb_blend", torch.device("meta")) == "reference"
    assert available_backends("atb_blend", "cuda:0")[0] == on_cuda
    if on_cuda == "triton":
        assert all(backends.choose(op, CUDA) == "triton" for op in backends.OPS)


@pytest.mark.parametrize(
    ("arch", "capability", "runs"),
    [
        ("8.0", (8, 0), True),
        ("8.0", (8, 9), True),
        ("8.6", (8, 0), False),
        ("8.0", (9, 0), False),
        ("8.0+PTX", (12, 0), True),
        ("9.0+PTX", (8, 9), False),
        ("sm_90a", (9, 0), True),
        ("9.0a", (9, 1), False),
        ("10.0", (10, 3), True),
        ("sm_120", (12, 0), True),
        ("compute_80", (9, 0), True),
        ("nonsense", (9, 0), False),
    ],
)
def test_architectures(arch, capability, runs):
    assert backends._arch_runs_on(arch, capability) is runs


@pytest.mark.parametrize(
    ("archs", "built", "driver", "runs"),
    [
        (["8.0+PTX"], "13.0", (13, 0), True),
        (["8.0+PTX"], "13.1", (13, 0), False),
        (["8.0", "compute_80"], "13.1", (13, 0), False),
        (["8.0", "9.0+PTX"], "13.1", (13, 0), True),
        (["9.0"], "13.1", (12, 9), True),
        (["8.0+PTX"], "13.1", None, True),
        (["8.0+PTX"], None, (12, 0), True),
    ],
)
def test_an_older_driver_cannot_compile_ptx(facts, monkeypatch, archs, built, driver, runs):
    """Machine code runs on it."""
    monkeypatch.setattr(backends, "driver_cuda", lambda: driver)
    facts(Library(path="_C.abi3.so", build={"cuda_archs": archs, "cuda_version": built}))
    reason = why_not("cuda", "atb_blend", "cuda:0")
    assert (reason is None) == runs
    if not runs:
        assert reason == (
            "its kernels for cuda:0 are PTX of CUDA 13.1, and the driver only knows CUDA up to 13.0: update the driver, or "
            "reinstall rirn with TORCH_CUDA_ARCH_LIST=9.0"
        )


def test_the_driver_is_asked(monkeypatch):
    class Driver:
        @staticmethod
        def cuDriverGetVersion(version):
            version._obj.value = 13010
            return 0

    backends.driver_cuda.cache_clear()
    monkeypatch.setattr(backends.ctypes, "CDLL", lambda name: Driver)
    assert backends.driver_cuda() == (13, 1)
    backends.driver_cuda.cache_clear()
    monkeypatch.undo()
    assert backends.driver_cuda() is None or backends.driver_cuda() >= (11, 0)


def test_why_not_texts(facts):
    facts(COMPILED)
    assert why_not("cpu", "atb_blend") is None
    assert why_not("auto", "atb_blend", "cuda") is None
    assert why_not("cpu", "atb_blend", "cuda:0") == "it works on CPU tensors, and these are on cuda:0"
    assert why_not("cuda", "atb_blend") == "it works on CUDA tensors, and these are on cpu"
    facts(COMPILED, capability=(7, 5))
    reason = why_not("cuda", "atb_blend", "cuda:0")
    assert "built for 8.0, 9.0" in reason and "TORCH_CUDA_ARCH_LIST=7.5" in reason
    facts(CPU_ONLY)
    assert "without CUDA kernels" in why_not("cuda", "atb_blend", "cuda:0")
    assert "no Triton kernel of made_up, only of atb_blend" in why_not("triton", "made_up", "cuda:0")
    facts(NONE)
    assert why_not("cpu", "atb_blend") == NONE.reason
    assert why_not("cuda", "atb_blend", "cuda:0") == NONE.reason
    facts(COMPILED, gpu="torch sees no CUDA device here")
    assert why_not("cuda", "atb_blend", "cuda:0") == "torch sees no CUDA device here"


def test_asked_for_and_unable_raises(facts):
    facts(NONE)
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(RirnError, match=r"'cpu' \(backend=\) cannot run atb_blend: it was not compiled"):
        atb_blend(x, x, x, x, backend="cpu")
    with use_backend("cuda"), pytest.raises(RirnError, match=r"'cuda' \(use_backend\) cannot run"):
        atb_blend(x, x, x, x)
    atb_blend(x, x, x, x)


def test_unknown_op():
    with pytest.raises(RirnError, match="'atb' is not an op, choose one of atb_blend, "):
        available_backends("atb")


def test_what_is_no_tensor():
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(TypeError, match=r"got ndarray: use torch\.as_tensor"):
        atb_blend(x, x, x.numpy(), x)


def test_unknown_name(facts, monkeypatch):
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(RirnError, match=r"'refrence' .* choose one of auto, .*; did you mean 'reference'?"):
        atb_blend(x, x, x, x, backend="refrence")
    with pytest.raises(RirnError, match="use_backend"), use_backend("gpu"):
        pass
    monkeypatch.setattr(backends, "_environment", "tritonn")
    with pytest.raises(RirnError, match=r"'tritonn' \(RIRN_BACKEND\) .*did you mean 'triton'"):
        atb_blend(x, x, x, x)


def test_use_backend_holds_for_its_thread_and_ends_with_its_block(facts):
    facts(COMPILED)
    seen = []
    with use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(backends.choose("atb_blend", CPU)))
        thread.start()
        thread.join()
        assert backends.choose("atb_blend", CPU) == "reference"
    assert seen == ["cpu"]
    with pytest.raises(KeyError), use_backend("reference"):
        raise KeyError
    assert backends.choose("atb_blend", CPU) == "cpu"


def test_meta_tensors_run_on_the_reference():
    x = torch.zeros(2, 3, 4, 5, device="meta")
    assert atb_blend(x, x, x, x).shape == x.shape


def test_import_reads_the_environment_and_leaves_the_compiler_alone():
    """torch._dynamo takes seconds to import; only those who compile should wait for it."""
    program = """if True:
        import sys
        from rirn.ops import backends
        print(backends._environment, "torch._dynamo" in sys.modules)
    """
    env = os.environ | {"RIRN_BACKEND": "reference"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["reference", "False"]


def test_explain_is_what_a_call_does():
    """For every op, and where torch's convolutions are faster."""
    for name in OPS:
        for case in (Case(1, 4, 6, 8), Case(1, 4, 6, 96), Case(1, 4, 6, 96, "fp64")):
            args = arguments(name, case)
            with torch.profiler.profile() as profile:
                call(name, args)
            fused = f"rirn::{name}" in {event.key for event in profile.key_averages()}
            found = explain(name, *args)
            assert (found.op, found.backend != "reference") == (name, fused)
            assert {found.backend, *found.why_not} == {"reference", "cpu", "cuda", "triton"}
            assert all(reason.strip() for reason in found.why_not.values())
            assert str(found).startswith(f"{name} runs on {found.backend}\n  not ")


def test_explain_refuses_what_the_call_refuses():
    x = torch.zeros(1, 2, 3, 3)
    with pytest.raises(RirnError, match=r"'atb_blnd' is not an op, .*; did you mean 'atb_blend'"):
        explain("atb_blnd", x, x, x, x)
    with pytest.raises(ValueError, match="logit_cur must be"):
        explain(atb_blend, x, x, x, x[0])
    with pytest.raises(TypeError, match="the ops take torch tensors; got int"):
        explain(atb_blend, x, x, x, 1)
    with pytest.raises(TypeError):
        explain(atb_blend, x)


def test_explain_sees_autocast_and_gradients():
    for op, found in OPS.items():
        if found.as_chain is not None and why_not("cpu", op) is None:
            assert "float64" in explain(op, *arguments(op, Case(1, 4, 6, 48, "fp64"))).why_not["cpu"]
    args = arguments("conv3x3_chain", Case(1, 4, 6, 48))
    if why_not("cpu", "conv3x3_chain") is None and library().isa != "generic":
        assert explain(conv3x3_chain, *args).backend == "cpu"
        args[1][0].requires_grad_()
        assert "columns" in explain(conv3x3_chain, *args).why_not["cpu"]
        with torch.no_grad():
            assert explain(conv3x3_chain, *args).backend == "cpu"
