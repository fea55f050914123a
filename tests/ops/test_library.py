"""A compiled library that is missing or broken: one sentence with the cure, and the reference runs."""

import json
import subprocess
import sys
import textwrap
import warnings

import pytest

from rirn.ops import _library


def test_checkout_without_library_warns_in_one_sentence(tmp_path):
    (tmp_path / "setup.py").touch()
    with pytest.warns(RuntimeWarning, match="source checkout .* hides a regular install .*pip install -e"):
        found = _library.load(tmp_path / "rirn", "rirn._no_such_library")
    assert not found.loaded and found.path is None
    assert str(tmp_path) in found.reason


@pytest.mark.parametrize("in_checkout", [True, False])
def test_pure_python_install_is_silent_and_says_why(tmp_path, in_checkout):
    package = tmp_path / "rirn"
    package.mkdir()
    if in_checkout:
        (tmp_path / "setup.py").touch()
    record = {"cpu": False, "reason": "no C++ compiler was found"}
    (package / "_build_info.json").write_text(json.dumps(record))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _library.load(package, "rirn._no_such_library")
    assert not found.loaded
    assert "no C++ compiler was found" in found.reason


def test_missing_without_record(tmp_path):
    found = _library.load(tmp_path / "rirn", "rirn._no_such_library")
    assert "without its compiled library" in found.reason


def test_broken_library_warns_and_keeps_the_reason(tmp_path, monkeypatch):
    (tmp_path / "broken_library.abi3.so").write_bytes(b"this is no shared object")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(RuntimeWarning, match="does not load with torch"):
        found = _library.load(tmp_path / "rirn", "broken_library")
    assert not found.loaded
    assert found.path.endswith("broken_library.abi3.so") and "reinstall rirn" in found.reason


def test_ops_run_without_the_library():
    """Where the library cannot be seen, auto takes the reference and asking for cpu raises."""
    program = """
        import sys, warnings
        sys.modules["rirn._C"] = None
        warnings.simplefilter("ignore")
        import torch
        from rirn.errors import RirnError
        from rirn.ops import atb_blend, available_backends
        x = torch.ones(1, 1, 2, 2, requires_grad=True)
        atb_blend(x, x, x, x).sum().backward()
        assert available_backends("atb_blend") == ["reference"]
        try:
            atb_blend(x, x, x, x, backend="cpu")
        except RirnError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cannot run atb_blend" in done.stdout


def test_build_info_of_the_library_here():
    library = _library.library()
    if not library.loaded:
        pytest.skip(library.reason)
    assert isinstance(library.build["cuda_archs"], list)
    assert library.isa
