"""The report on what runs here."""

import json

import pytest
import torch

from rirn import doctor
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
    assert "cuda, but leaves to the library float64" in text
    if not torch.cuda.is_available():
        assert "cuda, but leaves to the library float32" in text


@pytest.mark.parametrize("triton", [None, "3.8.0"])
def test_works_without_the_library_and_says_why(monkeypatch, triton):
    missing = Library(reason="rirn was installed without its compiled library: reinstall it")
    for module in (doctor, backends, _library):
        monkeypatch.setattr(module, "library", lambda: missing)
    monkeypatch.setattr(doctor, "_version", lambda name: triton if name == "triton" else "1.0")
    found = doctor.report()
    assert found["backends"]["irm_update"]["cpu"] == {
        "auto": "reference",
        "reference": None,
        "cpu": missing.reason,
        "cuda": "it works on CUDA tensors, and these are on cpu",
        "triton": found["backends"]["irm_update"]["cpu"]["triton"],
    }
    text = doctor.format_report(found)
    assert missing.reason in text
    assert ("not installed" in text) is (triton is None)
