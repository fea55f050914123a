"""The report on what runs here."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

import rirn
from rirn import doctor
from rirn.cli import main
from rirn.ops import _library, backends
from rirn.ops._library import Library


def test_report_is_json_and_names_everything(monkeypatch):
    monkeypatch.setenv("RIRN_BACKEND", "auto")
    found = json.loads(json.dumps(doctor.report()))
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(found["backends"]) == set(backends.OPS)
    assert found["backends"]["atb_blend"]["cpu"]["reference"] is None
    assert found["environment"]["RIRN_BACKEND"] == "auto"
    assert found["devices"][0]["name"] == "cpu"


def test_text_holds_the_facts():
    found = doctor.report()
    text = doctor.format_report(found)
    for op in backends.OPS:
        assert op in text
    assert found["devices"][0]["model"] in text
    assert "cuda: triton" in text or "cuda:0: triton" in text
    assert "None" not in text


def test_text_says_what_auto_leaves_to_the_library():
    found = doctor.report()
    for answers in found["backends"]["conv3x3_chain"].values():
        answers["auto"] = "cuda"
    text = doctor.format_report(found)
    assert "cuda, but leaves to torch float64" in text
    if not torch.cuda.is_available():
        assert "cuda, but leaves to torch float32" in text


@pytest.mark.parametrize("triton", [None, "3.8.0"])
def test_works_without_the_library_and_says_why(monkeypatch, triton):
    missing = Library(reason="rirn was installed without its compiled library: reinstall it")
    for module in (doctor, backends, _library):
        monkeypatch.setattr(module, "library", lambda: missing)
    monkeypatch.setattr(doctor, "_version", lambda name: triton if name == "triton" else "1.0")
    found = doctor.report()
    assert found["backends"]["atb_blend"]["cpu"] == {
        "auto": "reference",
        "reference": None,
        "cpu": missing.reason,
        "cuda": "it works on CUDA tensors, and these are on cpu",
        "triton": found["backends"]["atb_blend"]["cpu"]["triton"],
    }
    assert found["kernels"]["atb_blend"] == {
        "cpu": False,
        "cuda": [],
        "triton": found["kernels"]["atb_blend"]["triton"],
    }
    text = doctor.format_report(found)
    assert missing.reason in text
    assert ("not installed" in text) is (triton is None)


def test_kernels_are_listed_where_they_cannot_run(monkeypatch):
    """Which architectures were compiled for is a fact of the build, not of the machine."""
    built = Library(
        path="_C.so", build={"cuda_archs": ["8.0", "9.0+PTX"], "cuda_version": "13.0"}, isa="avx2"
    )
    for module in (doctor, backends):
        monkeypatch.setattr(module, "library", lambda: built)
    monkeypatch.setattr(backends, "has_kernel", lambda op, key: key == "CPU" or op == "atb_blend")
    monkeypatch.setattr(backends, "why_no_gpu", lambda: "torch sees no CUDA device here")
    monkeypatch.setattr(doctor, "why_no_gpu", backends.why_no_gpu)
    found = doctor.report()
    assert found["kernels"]["atb_blend"] == {"cpu": True, "cuda": ["8.0", "9.0+PTX"], "triton": True}
    assert found["kernels"]["fac"]["cuda"] == []
    assert found["backends"]["atb_blend"]["cuda"]["cuda"] == "torch sees no CUDA device here"
    assert re.search(r"atb_blend +CPU; CUDA for 8\.0, 9\.0\+PTX; Triton\n", doctor.format_report(found))


def test_json_is_the_report(capsys):
    assert main(["doctor", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(doctor.report())


def test_install_and_machine_are_named():
    found = doctor.report()
    assert Path(found["install"]["folder"]) == Path(rirn.__file__).resolve().parent
    assert found["platform"]["interpreter"] == sys.executable
    assert set(found["optional"]) == set(doctor.OPTIONAL)
    text = doctor.format_report(found)
    assert found["install"]["folder"] in text and found["platform"]["system"] in text


def test_misspelt_variable_is_shown_as_such(monkeypatch):
    monkeypatch.setenv("RIRN_BACKND", "cpu")
    monkeypatch.setenv("RIRN_BACKEND", "cpu")
    found = doctor.report()
    assert found["unknown_variables"] == ["RIRN_BACKND"]
    text = doctor.format_report(found)
    assert re.search(r"RIRN_BACKND +cpu \(nothing reads this variable\)", text)
    assert re.search(r"RIRN_BACKEND +cpu\n", text)
