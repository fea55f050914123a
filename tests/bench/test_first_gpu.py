"""The first run on a GPU, without one: what is run, what is kept, what goes on where it was."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from rirn.bench import first_gpu, gpu_steps
from rirn.bench.cases import QUICK, Case
from rirn.bench.first_gpu import STEPS, FirstGpu, Step, main, summary
from rirn.errors import RirnError
from rirn.measure.timing import CpuClock
from tests.packaging.installs import ROOT

BOUNDS = {"copy": 10.0, "fp32": 100.0, "bf16": 100.0}
SMALL = gpu_steps.Bench(torch.device("cpu"), CpuClock(), QUICK, BOUNDS)


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(gpu_steps, "ROUNDS", 3)
    monkeypatch.setattr(gpu_steps, "SECONDS", 0.01)


def code(text, *, name="step", part=1, seconds=60, needs=()):
    """A step that runs Python code."""
    return Step(part, name, seconds, (sys.executable, "-c", text, "{rows}"), needs)


@pytest.fixture
def one_part(monkeypatch, tmp_path):
    """Run the command with other steps than its own, and return its exit status and their outcomes."""
    monkeypatch.setattr(first_gpu, "why_no_gpu", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))

    def run(*steps, argv=("--part", "1")):
        monkeypatch.setattr(first_gpu, "STEPS", steps)
        status = main([*argv, "--out", str(tmp_path / "out"), "--source", str(tmp_path)])
        found = [json.loads((tmp_path / "out" / f"{s.name}.json").read_text()) for s in steps]
        return status, [outcome["status"] for outcome in found], [outcome["says"] for outcome in found]

    return run


def test_steps_are_done_once(one_part, tmp_path, capsys):
    step = code(f"open({str(tmp_path / 'count')!r}, 'a').write('x'); print('3 passed')")
    failing = code("raise SystemExit('two failed in 1 s')", name="failing")
    for _ in range(2):
        assert one_part(step, failing) == (1, ["done", "failed"], ["3 passed", "two failed in 1 s"])
    assert (tmp_path / "count").read_text() == "x"
    assert one_part(step, argv=("--again", "step"))[0] == 0
    assert (tmp_path / "count").read_text() == "xx"
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last.startswith("| step | ") or last.startswith("|")
    assert (tmp_path / "out" / "part-1.md").read_text().splitlines()[
        0
    ] == "| step | status | says | seconds |"


def test_a_step_that_takes_too_long_is_cut_off_and_tried_again(one_part, monkeypatch):
    endless = code("import time; time.sleep(100)", seconds=1)
    for _ in range(2):
        status, (outcome,), (says,) = one_part(endless)
        assert (status, outcome) == (1, "cut off") and says == "after its 1 s; start it again"
    status, (outcome,), _ = one_part(endless, argv=("--part", "1", "--minutes", "0.1"))
    assert (status, outcome) == (1, "left")


ROW_BY_ROW = """
import json, sys
from pathlib import Path
rows = Path(sys.argv[1])
there = len(rows.read_text().splitlines()) if rows.exists() else 0
rows.open("a").write(json.dumps({"what": f"row {there}", "us": 1.5}) + "\\n")
sys.exit(there < 2)
"""


def test_a_step_that_dies_goes_on_behind_its_rows(one_part, tmp_path):
    assert one_part(code(ROW_BY_ROW)) == (0, ["done"], ["3 rows"])
    assert "| row 2 | 1.5 |" in (tmp_path / "out" / "part-1.md").read_text()


def test_a_wrong_number_is_a_failure(one_part, tmp_path):
    row = json.dumps(
        {"what": "irm_update", "library": 2.5, "failed": {"cuda": "error 1e-01 against float64"}}
    )
    step = code(f"import sys; open(sys.argv[1], 'w').write({row + chr(10)!r})")
    assert one_part(step) == (1, ["failed"], ["1 rows, 1 entries without a number"])
    assert (
        "| irm_update | 2.5 | cuda: error 1e-01 against float64 |"
        in (tmp_path / "out" / "part-1.md").read_text()
    )


def test_missing_tools_are_named(one_part, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    steps = [code("", name=tool, needs=(tool,)) for tool in ("ncu", "compute-sanitizer", "checkout")]
    status, outcomes, says = one_part(*steps)
    assert status == 0 and set(outcomes) == {"skipped"}
    assert says[:2] == ["ncu is not on PATH", "compute-sanitizer is not on PATH"] and says[2].endswith(
        "with tests"
    )


@pytest.mark.parametrize("part", [[], ["--part", "2"]])
def test_without_a_gpu(part, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(first_gpu, "why_no_gpu", lambda: "torch sees no CUDA device here")
    # What needs no GPU is one step, which imports torch: here anything that is quick stands for it.
    quick = [code("print('told')", name=s.name) if s.needs == () else s for s in STEPS]
    monkeypatch.setattr(first_gpu, "STEPS", quick)
    assert main([*part, "--out", str(tmp_path), "--source", str(ROOT)]) == len(part) // 2
    for step in STEPS if not part else [s for s in STEPS if s.part == 2]:
        outcome = json.loads((tmp_path / f"{step.name}.json").read_text())
        if step.name == "facts":
            assert outcome["status"] == "done"
        else:
            assert (outcome["status"], outcome["says"]) == (
                "skipped",
                "no GPU: torch sees no CUDA device here",
            )
    assert not list((tmp_path / "tree").iterdir())


def test_mistakes_have_one_sentence(tmp_path):
    for argv, message in (
        (["--minutes", "0"], "--minutes must be above 0"),
        (["--again", "tea"], "--again tea is no step; take one of build, facts"),
    ):
        with pytest.raises(RirnError, match=message):
            main([*argv, "--out", str(tmp_path)])


def test_what_the_steps_name_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(first_gpu, "why_no_gpu", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    run = FirstGpu(tmp_path, ROOT, rehearse=False)
    tests = (ROOT / "tests" / "gpu" / "test_ops.py").read_text(encoding="utf-8")
    for step in STEPS:
        words = run.command(step)
        assert all((ROOT / word).exists() for word in words if word.startswith("tests/")), step.name
        assert run.environment(step)["TORCH_CUDA_ARCH_LIST"] == "9.0"
        if "rirn.bench.gpu_steps" in words and "call" not in words:
            assert step.name in gpu_steps.STEPS
        for name in re.findall(r"(\w{12,})", " ".join(words[words.index("-k") :]) if "-k" in words else ""):
            assert f"def test_{name}(" in tests
    assert [sum(s.seconds for s in STEPS if s.part == part) > 0 for part in (1, 2, 3)] == [True] * 3
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "csrc" / "cuda").glob("*.cuh"))
    for kernel, how in gpu_steps.KERNELS.items():
        place = (ROOT / "kernels" / "conv3x3.py").read_text() if how.backend == "triton" else sources
        assert re.search(rf"(?:__global__ [^;{{]*|def ){kernel}\(", place), kernel


def test_summaries(tmp_path):
    step = code("", name="ncu-pointwise")
    log = tmp_path / f"{step.name}.log"
    log.write_text(
        '==PROF== Connected\n"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"\n'
        '"0","pointwise","Duration","us","12.4"\n"0","pointwise","Achieved Occupancy","%","71.3"\n'
    )
    assert summary(step, tmp_path) == "Duration 12.4 us; Achieved Occupancy 71.3 %"
    log.write_text("======== 12 passed, 3 skipped in 4 s ========\n========= ERROR SUMMARY: 0 errors\n")
    assert summary(step, tmp_path) == "12 passed, 3 skipped in 4 s; ERROR SUMMARY: 0 errors"


def test_everyone_is_compared(monkeypatch):
    row = gpu_steps.compare(Case("ops", "irm_update", 16, *QUICK.features, "fp32"), "channels_last", SMALL)
    assert {"cpu", "auto", "library", "tf32", "floor"} <= set(row) and not row["failed"]
    assert row["best"] in ("cpu", "library") and 0 < row["error"] < 1e-5
    assert row["errors"]["library"] < 1e-5  # torch's IRM is the same function
    both = gpu_steps.compare(Case("ops", "fac", 8, 8, 8, "bf16"), "NCHW", SMALL, "forward+backward")
    assert both["cpu"] > 0 and both["library"] > 0


def test_who_is_wrong_gets_no_time(monkeypatch):
    true = gpu_steps.value_error
    monkeypatch.setattr(gpu_steps, "value_error", lambda got, truth: true([t + 1 for t in got], truth))
    row = gpu_steps.compare(Case("ops", "atb_blend", 8, 8, 8, "fp32"), "NCHW", SMALL)
    assert "cpu" not in row and row["best"] is None and "against float64" in row["failed"]["cpu"]


def rows_of(step, path, only):
    """Run a step on the CPU but for the rows whose names do not hold ``only``."""
    made = gpu_steps.STEPS[step]

    def few(bench):
        return ((what, make) for what, make in made(bench) if only in what)

    gpu_steps.STEPS[step] = few
    try:
        gpu_steps.run(step, path, rehearse=True)
    finally:
        gpu_steps.STEPS[step] = made
    return gpu_steps.read_rows(path)


@pytest.mark.parametrize(
    ("step", "only", "has"),
    [
        ("facts", "", {"versions", "library", "devices"}),
        ("ceilings", "", {"copy", "bf16"}),
        ("op_table", "atb_blend", {"floor", "cpu", "library", "best"}),
        ("guesses", "flush", {"says"}),
        ("steps", "rirn-small bf16 NCHW", {"python", "eager", "graph"}),
        ("profiles", "training", {"whole", "launches", "top"}),
        ("deblur", "rirn-tiny", {"frames_per_s", "says"}),
    ],
)
def test_rehearsal(step, only, has, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_steps, "make_bench", lambda rehearse: SMALL)
    rows = rows_of(step, tmp_path / "rows", only)
    assert rows and has <= set(rows[0]) and first_gpu.table(rows)


def test_rows_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_steps, "make_bench", lambda rehearse: SMALL)
    path = Path(tmp_path / "rows")
    path.write_text('{"what": "limits, GB/s and GFLOP/s", "copy": 1}\n{"what": "a launch, us", "pyth')
    found = rows_of("ceilings", path, "")
    assert [row["what"] for row in found] == [
        "limits, GB/s and GFLOP/s",
        "a launch, us",
        "a call of atb_blend, us",
    ]
    assert found[0]["copy"] == 1


def test_kernels_are_called():
    for name in ("pointwise", "conv3x3_weight_gradient_mma"):
        gpu_steps.call(name, rehearse=True)
