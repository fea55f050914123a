"""What `auto` takes on a GPU, by the counted steps and by measured ones; on fake tensors, as no GPU is needed to choose."""

import json

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rirn import RirnError
from rirn.bench import tune
from rirn.bench.cases import Sizes
from rirn.ops import conv3x3_chain, irm_update, tuning
from rirn.ops.atb_update import runs_atb_update
from rirn.ops.backends import assume
from rirn.ops.conv3x3_chain import runs_kernel
from tests.ops.calls import Recorder


@pytest.fixture(autouse=True)
def forget():
    yield
    for found in (tuning.measured, tuning._steps):
        found.cache_clear()


@pytest.fixture
def precision():
    settings = torch.backends.cudnn.conv
    before = settings.fp32_precision

    def let(tf32):
        settings.fp32_precision = "tf32" if tf32 else "ieee"

    yield let
    settings.fp32_precision = before


def steps_are(monkeypatch, table):
    """As if these had been measured on the GPU, on which all forms run."""
    monkeypatch.setattr(tuning, "measured", lambda device: table)
    monkeypatch.setattr(tuning, "why_not", lambda *args: None)
    tuning._steps.cache_clear()


def taken(op, c, dtype):
    """The names of the torch ops that a call makes."""
    with FakeTensorMode(), assume("cuda"), torch.no_grad(), Recorder() as record:
        x = torch.empty(1, c, 8, 40, dtype=dtype, device="cuda")
        if op == "irm_update":
            outs = [2 * c] * 5 + [c]
            weights = [x.new_empty(out, 2 * c, 3, 3) for out in outs]
            irm_update(x, x, weights, [x.new_empty(out) for out in outs])
        else:
            conv3x3_chain([x], [x.new_empty(c, c, 3, 3)] * 2, [x.new_empty(c)] * 2, [0, 1], [0, 1])
    return record.called


@pytest.mark.parametrize(
    ("op", "c", "dtype", "tf32", "ours"),
    [
        ("irm_update", 32, torch.bfloat16, True, True),
        ("irm_update", 33, torch.bfloat16, True, False),
        ("irm_update", 20, torch.float32, False, True),
        ("irm_update", 20, torch.float32, True, False),
        ("irm_update", 20, torch.float64, False, False),
        ("conv3x3_chain", 64, torch.float16, True, True),
        ("conv3x3_chain", 65, torch.float16, True, False),
        ("conv3x3_chain", 16, torch.float32, False, False),
    ],
)
def test_counted_steps(op, c, dtype, tf32, ours, precision):
    precision(tf32)
    called = taken(op, c, dtype)
    assert (op in called) == ours and ("convolution" in called) == (not ours)


def test_the_library_computes_in_the_dtype_given(precision):
    """The reference of half precision computes in float32, where no tensor cores of half precision are."""
    precision(True)
    called = taken("irm_update", 128, torch.bfloat16)
    assert "convolution" in called and "_to_copy" not in called


def test_measured_steps_replace_the_counted_ones(monkeypatch, precision):
    precision(False)
    steps_are(monkeypatch, {"conv3x3_chain": {"half": ((20, "cuda"), (40, "library"), (96, "triton"))}})
    x = torch.empty(1, device="meta", dtype=torch.half)
    widths = {c: tuning.tuned("conv3x3_chain", x, c, "cuda") for c in (20, 21, 40, 41, 96, 97)}
    assert list(widths.values()) == ["cuda", "library", "library", "triton", "triton", "library"]
    assert tuning.tuned("conv3x3_chain", x.float(), 4, "cuda") == "library"
    assert tuning.tuned("irm_update", x, 32, "triton") == "triton"  # not measured: counted
    steps_are(monkeypatch, {"irm_update": {"half": ()}})
    assert tuning.tuned("irm_update", x, 32, "cuda") == "library"
    assert tuning.tuned("irm_update", x.float(), 32, "cuda") == "cuda"  # nor was this precision

    steps_are(
        monkeypatch,
        {"conv3x3_chain": {"half": ((16, "library"), (64, "triton"))}, "atb_update": {"half": ()}},
    )
    with FakeTensorMode(), assume("cuda"), torch.no_grad():
        x = torch.empty(1, 64, 8, 40, dtype=torch.half, device="cuda")
        assert runs_kernel([x], [x.new_empty(64, 64, 3, 3)]) and not runs_kernel(
            [x], [x.new_empty(16, 16, 3, 3)]
        )
        assert not runs_atb_update(x, [x])
        tuning._steps.cache_clear()
        monkeypatch.setattr(tuning, "measured", lambda device: {})
        assert runs_atb_update(x, [x])


def test_a_form_that_cannot_run_here_is_none_to_take(monkeypatch):
    steps_are(monkeypatch, {"conv3x3_chain": {"half": ((64, "triton"),)}})
    monkeypatch.setattr(tuning, "why_not", lambda form, *args: "gone" if form == "triton" else None)
    assert tuning.tuned("conv3x3_chain", torch.empty(1, device="meta", dtype=torch.half), 8, "cuda") == "cuda"


def test_compiled_whole_with_any_channels(precision):
    precision(False)

    @torch.compile(fullgraph=True, backend="eager", dynamic=True)
    def ours(x):
        return x + 1 if tuning.tuned("irm_update", x, x.shape[1], "cuda") == "cuda" else x - 1

    found = [
        ours(torch.zeros(1, c, 2, 2, dtype=t)).mean() for c, t in ((20, None), (33, None), (20, torch.double))
    ]
    assert found == [1, -1, -1]


def test_written_steps_are_read(tmp_path, monkeypatch):
    file = tmp_path / "deep" / "tuning.json"
    first = {"irm_update": {"half": ((20, "cuda"), (64, "triton"))}}
    tuning.write(file, "One", first)
    tuning.write(file, "Two", {"conv3x3_chain": {"tf32": ()}})
    assert tuning.read(file) == {"One": first, "Two": {"conv3x3_chain": {"tf32": ()}}}
    monkeypatch.setenv("RIRN_TUNING", str(file))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "One")
    assert tuning.measured(torch.device("cuda", 0)) == first
    assert tuning.read(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"One": 1}',
        '{"One": {"fac": {"half": []}}}',
        '{"One": {"irm_update": {"int8": []}}}',
        '{"One": {"irm_update": {"half": [[64, "cuda"], [32, "cuda"]]}}}',
        '{"One": {"irm_update": {"half": [[64, "cudnn"]]}}}',
    ],
)
def test_a_spoilt_file_is_named_and_does_not_stop_a_run(text, tmp_path, monkeypatch):
    file = tmp_path / "tuning.json"
    file.write_text(text)
    with pytest.raises(RirnError, match=r"tuning\.json cannot be read as what `rirn bench --tune` writes"):
        tuning.read(file)
    monkeypatch.setenv("RIRN_TUNING", str(file))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.warns(UserWarning, match="counted limits hold"):
        assert tuning.measured(torch.device("cuda", 1)) == {}


def test_rows_become_steps():
    """The fastest of each width; TF32's library against ours, which are exact; wide ones of the library need no step."""
    sizes = Sizes()
    times = {
        ("conv3x3_chain", "bf16"): lambda c: {"cuda": c, "triton": 30, "library": 50},
        ("conv3x3_chain", "fp32"): lambda c: {"cuda": 2 * c, "library": 65, "tf32": 1},
        ("irm_update", "bf16"): lambda c: {"failed": {"cuda": "it fell"}},
        ("atb_update", "bf16"): lambda c: {"cuda": 9, "library": c},
    }
    rows = {
        tune.name_of(case): times.get((op, case.dtype), lambda c: {})(c) for op, c, case in tune.cases(sizes)
    }
    assert tune.table(rows, sizes) == {
        "conv3x3_chain": {"half": ((20, "cuda"), (128, "triton")), "float32": ((32, "cuda"),), "tf32": ()},
        "atb_update": {"half": ((128, "cuda"),)},
    }
    assert json.loads(json.dumps(tune.table(rows, sizes)))  # as it is written
