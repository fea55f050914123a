"""The benchmark command: what it writes, and that wrong numbers are never timed. No assertion about time."""

import json
import math

import pytest
import torch

from rirn.bench import cases
from rirn.bench.__main__ import commit, main, parse_device, parse_size
from rirn.bench.timing import alternate, spread
from rirn.errors import RirnError
from rirn.ops import available_backends

QUICK = ["--quick", "--size", "6x7", "--rounds", "2", "--device", "cpu"]


def test_quick_run_writes_table_and_json(tmp_path, capsys):
    file = tmp_path / "timings.json"
    assert main([*QUICK, "--json", str(file)]) == 0
    table = capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["command"].startswith("python -m rirn.bench --quick --size 6x7")
    assert written["versions"]["torch"] and written["devices"][0]["model"] and written["rounds"] == 2
    rows = written["results"]
    for op, channels in (("atb_blend", 80), ("conv3x3_chain", 80), ("irm_update", 16)):
        for passes in ("forward", "forward+backward"):
            assert f"{op} c={channels} 6x7 fp32 {passes}" in table
            mine = [r for r in rows if (r["op"], r["channels"], r["passes"]) == (op, channels, passes)]
            assert {r["competitor"] for r in mine} == set(available_backends(op))
            for row in mine:
                low, high = row["quartiles_ms"]
                assert 0 < low <= row["median_ms"] <= high
                assert row["error"] <= cases.LIMITS["fp32"]
                assert (row["GB_per_s"] is not None) == (op == "atb_blend")
                assert row["speedup"] > 0


@pytest.mark.parametrize("bad", [1.01, float("nan")])
def test_a_mismatch_gets_no_number_and_fails(bad, monkeypatch, capsys):
    honest = cases.competitors

    def with_a_cheat(op, device, with_compiled):
        found = honest(op, device, with_compiled)
        return {**found, "cheat": lambda *tensors: bad * found["reference"](*tensors)}

    monkeypatch.setattr("rirn.bench.__main__.competitors", with_a_cheat)
    assert main([*QUICK, "--op", "atb_blend"]) == 1
    out = capsys.readouterr()
    line = next(line for line in out.out.splitlines() if "cheat" in line)
    assert "MISMATCH" in line and "not timed" in line
    assert "2 of" in out.err


def test_every_tensor_counts():
    truth = [torch.ones(10), torch.ones(10)]
    assert cases.errors(truth, truth) == [0, 0]
    assert cases.errors([truth[0], 1.5 * truth[1]], truth) == pytest.approx([0, 0.5])
    assert cases.errors([truth[0], truth[1] * torch.nan], truth) == [0, math.inf]


@pytest.mark.parametrize("op", cases.BEFORE_RELU)
def test_inputs_keep_activations_off_the_kink(op):
    case = cases.Case(op, 20, 30, 40, "fp32", "forward+backward")
    grad = torch.randn(1, 20, 30, 40, dtype=torch.float64)
    results = []
    for noise in (0, 1e-3):  # far more than rounding
        inputs, _ = cases.to_double(cases.make_inputs(case, torch.device("cpu")), None)
        with torch.no_grad():
            inputs[0] += noise * torch.randn_like(inputs[0])
        gradients = cases.run(lambda *t: cases.call(op, "reference", *t), inputs, grad)[1:]
        results.append(gradients[0])
    torch.testing.assert_close(*results)  # the network is linear between the kinks


def test_bf16_and_the_compiled_reference_can_take_part():
    found = cases.competitors("atb_blend", torch.device("cpu"), with_compiled=True)
    assert list(found)[:2] == ["reference", "compiled reference"]
    assert main([*QUICK, "--op", "irm_update", "--dtype", "bf16"]) == 0


def test_ideal_bytes():
    assert cases.Case("atb_blend", 2, 3, 5, "fp32", "forward").ideal_bytes == 5 * 30 * 4
    assert cases.Case("atb_blend", 2, 3, 5, "bf16", "forward+backward").ideal_bytes == 14 * 30 * 2
    assert cases.Case("irm_update", 2, 3, 5, "fp32", "forward").ideal_bytes is None


def test_everyone_is_called_in_every_round():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = alternate(functions, 3, torch.device("cpu"))
    assert set(times) == set(calls) == {"a", "b"}
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.5, 2.5)
    assert spread([4.0]) == (4.0, 4.0, 4.0)


@pytest.mark.parametrize("text", ["180", "180x", "0x4", "axb", "180X320"])
def test_size_is_checked(text):
    with pytest.raises(RirnError, match=r"--size must be HEIGHTxWIDTH"):
        parse_size(text)


@pytest.mark.parametrize("text", ["gpu", "cuda:99"])
def test_device_is_checked(text):
    with pytest.raises(RirnError, match=f"--device {text} cannot be used"):
        parse_device(text)


def test_commit_is_a_hash_or_nothing():
    found = commit()
    assert found is None or set(found.rstrip("+")) <= set("0123456789abcdef")
