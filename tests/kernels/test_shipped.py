"""Compiled kernels that lie in the package, on a GPU that is none."""

from types import SimpleNamespace

import pytest
import torch

import rirn.kernels

if rirn.kernels.why_not() or rirn.kernels.interpreted():
    pytest.skip("needs Triton's compiler", allow_module_level=True)

import triton
import triton.compiler

import rirn
from rirn.kernels import aot, conv3x3, gru_update, launch, shipped
from rirn.ops import backends, use_backend
from tests.kernels.fake_gpu import fake_gpu

VARIANT = next(v for v in aot.variants() if v.name == "gru_update_forward-bf16")


@pytest.fixture
def compilations(monkeypatch, tmp_path):
    """Whether each kernel of a test was found (True) or compiled (False); the user's cache is empty."""
    knobs = triton.knobs
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "mine"))
    found = []
    monkeypatch.setitem(
        knobs.compilation.__dict__, "listener", lambda cache_hit, **facts: found.append(cache_hit)
    )
    monkeypatch.setitem(knobs.cache.__dict__, "manager_class", None)
    monkeypatch.setattr(launch, "_compiled", {})
    gru_update._forward.device_caches.clear()
    yield found
    gru_update._forward.device_caches.clear()


@pytest.fixture
def folder(compilations, tmp_path, monkeypatch):
    """A folder with one kernel for sm_90, which Triton looks into."""
    folder = tmp_path / "compiled"
    shipped.put(aot.compile_one(VARIANT, 90).kernel, folder)
    assert compilations == [False] and [p.suffix for p in sorted(folder.glob("*/*"))] == [".cubin", ".json"]
    compilations.clear()
    gru_update._forward.device_caches.clear()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "another"))
    assert shipped.look_up(folder)
    return folder


def call(dtype=torch.bfloat16, arch=90):
    images = [torch.zeros(1, 16, 4, 4, dtype=dtype) for _ in range(4)]
    with fake_gpu(arch):
        gru_update.forward(images[0], *images[1:])


def test_a_launch_compiles_nothing(folder, compilations):
    call()
    assert compilations == [True]


def test_another_target_is_compiled(folder, compilations):
    call(arch=80)
    call(torch.float16)
    assert compilations == [False, False]


def test_another_triton_compiles(folder, compilations, monkeypatch):
    monkeypatch.setattr("triton.runtime.cache.triton_key", lambda: "3.9.9")
    call()
    assert compilations == [False]


def test_without_the_folder_all_is_compiled(folder, compilations):
    triton.knobs.cache.__dict__["manager_class"] = None
    assert not shipped.look_up(folder / "nowhere")
    call()
    assert compilations == [False]


def test_a_cache_of_ones_own_kind_is_left_alone(compilations, tmp_path):
    own = triton.knobs.cache.__dict__["manager_class"] = triton.runtime.cache.FileCacheManager
    assert not shipped.look_up(tmp_path) and triton.knobs.cache.manager_class is own


def test_networks_that_ship_launch_what_is_compiled_ahead_of_time(monkeypatch):
    """In half precision and 720p, but for convolutions taken apart into phases, which ``auto`` leaves to torch."""
    seen = set()

    class Kernel(SimpleNamespace):
        def __getitem__(self, grid):
            return lambda *args: None

    def compile(src, target, options):
        kinds = triton.compiler.make_backend(target).parse_options(dict(options))
        seen.add((src.hash(), kinds.hash()))
        launched = Kernel(run=lambda *args: None, function=None, packed_metadata=None, asm={})
        launched.launch_metadata = lambda *args: None
        launched.metadata = SimpleNamespace(shared=0)
        return launched

    monkeypatch.setattr(triton.compiler, "compile", compile)
    monkeypatch.setattr(launch, "_compiled", {})
    monkeypatch.setattr(backends.Triton, "why_not", lambda self, op, device: None)
    functions = [v.kernel for v in aot.variants()]
    for function in functions:
        function.device_caches.clear()
    try:
        for variant in (*aot.variants("layers"), *aot.variants()):
            aot.compile_one(variant, 90)
        ahead = set(seen)
        seen.clear()
        for function in functions:
            function.device_caches.clear()
        # What reads phases is torch's.
        real = conv3x3._launch_conv
        monkeypatch.setattr(
            conv3x3, "_launch_conv", lambda inputs, *rest: inputs[0].phases or real(inputs, *rest)
        )
        for name in ("rirn-tiny", "rirn-small"):
            model = rirn.load(name).bfloat16().eval().to(memory_format=torch.channels_last)
            frame = torch.zeros(1, 3, 720, 1280).bfloat16().contiguous(memory_format=torch.channels_last)
            state = None
            with fake_gpu(), torch.inference_mode(), use_backend("triton"):
                for _ in range(4):
                    _, state = model.step(frame, state)
            assert len(seen) > 10
            assert seen <= ahead, (
                f"{len(seen - ahead)} of {len(seen)} kernels of {name} are compiled where it runs"
            )
    finally:
        for function in functions:
            function.device_caches.clear()
