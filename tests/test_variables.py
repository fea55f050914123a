"""The table of variables in CONTRIBUTING.md names what the code reads, no more and no less."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
READ = {
    ".py": r"[\"'](RIRN_[A-Z_]*[A-Z])[\"']",
    ".cpp": r"getenv\(\"(RIRN_\w+)\"\)",
    ".h": r"getenv\(\"(RIRN_\w+)\"\)",
}
FOLDERS = ("rirn", "kernels", "bench", "csrc", "setup.py")


def variables():
    """Names of the variables that the code reads."""
    files = [
        path for folder in FOLDERS for path in [ROOT / folder, *(ROOT / folder).rglob("*")] if path.is_file()
    ]
    return {
        name
        for path in files
        if path.suffix in READ and path != ROOT / "rirn" / "doctor.py"  # which names them all and reads none
        for name in re.findall(READ[path.suffix], path.read_text("utf-8"))
    }


def table():
    """Cells of each row of the table, by name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`RIRN_.*) \|$", text, re.MULTILINE)
    return {cells[0].strip("`"): cells for cells in (row.split(" | ") for row in rows)}


def test_every_variable_is_in_the_table():
    assert {"RIRN_BACKEND", "RIRN_CPU_ISA", "RIRN_BUILD_CUDA"} <= variables()
    assert variables() == set(table())


@pytest.mark.parametrize("name", sorted(table()))
def test_rows_have_default_values_and_meaning(name):
    cells = table()[name]
    assert len(cells) == 4 and all(cell.strip() for cell in cells)


def test_doctor_knows_them_all():
    from rirn.doctor import VARIABLES

    assert set(VARIABLES) == variables()


def test_backends_of_the_table():
    from rirn.ops.backends import NAMES

    assert re.findall(r"`(\w+)`", table()["RIRN_BACKEND"][2]) == list(NAMES)
