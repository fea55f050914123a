"""The benchmark command: what it times and writes, and that wrong numbers are never timed. No assertion about time."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from rirn import doctor, markers
from rirn.bench import options as offered
from rirn.bench import report
from rirn.bench.__main__ import main, parse_size
from rirn.bench.cases import DTYPES, Case
from rirn.bench.measure import VALUE_LIMITS, Entrant
from rirn.errors import RirnError
from rirn.ops import available_backends
from rirn.ops.spec import OPS

QUICK = [
    "--quick",
    "--size",
    "6x7",
    "--frame",
    "12x8",
    "--clip",
    "1x2x8x8",
    "--rounds",
    "1",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Results of a run over two ops, a module, a network, a training step and a ratio."""
    folder = tmp_path_factory.mktemp("bench")
    runs = (
        ["--op", "atb_blend", "--op", "irm_update", "--op", "ATB"],
        ["--only", "models", "--only", "train", "--only", "ratios", "--model", "gru+rirn"],
    )
    paths = [folder / "ops.json", folder / "networks.json"]
    for path, options in zip(paths, runs, strict=True):
        assert main([*QUICK, *options, "--json", str(path)]) == 0
    both = folder / "both.json"
    assert main(["--from", str(paths[0]), "--from", str(paths[1]), "--json", str(both)]) == 0
    return both


def test_what_the_parser_offers_is_all_there_is():
    assert tuple(DTYPES) == offered.DTYPES


def test_json_has_machine_versions_and_rows(file):
    written = json.loads(file.read_text())
    ops, networks = written["command"].split("\n")
    assert ops.startswith("python -m rirn.bench --quick --size 6x7") and "gru+rirn" in networks
    assert written["versions"]["torch"] and written["devices"][0]["model"] and written["threads"]["torch"]
    assert min(written["limits"][name] for name in ("copy", "fp32", "bf16")) > 0
    for op, c in (("atb_blend", 80), ("irm_update", 20), ("irm_update", 16)):
        for passes in offered.PASSES:
            mine = [
                r for r in written["results"] if (r["name"], r["channels"], r["passes"]) == (op, c, passes)
            ]
            assert {r["competitor"] for r in mine} == set(available_backends(op))
    names = {(r["group"], r["name"], r["passes"]) for r in written["results"] if r["channels"] is None}
    assert names == {
        ("models", "gru+rirn", "forward"),
        ("train", "gru+rirn", "forward+backward"),
        ("ratios", "gru", "forward"),
        ("ratios", "gru+rirn", "forward"),
    }
    for row in written["results"]:
        low, high = row["quartiles_ms"]
        assert 0 < low <= row["median_ms"] <= high
        assert row["error"] <= VALUE_LIMITS["fp32"] and row["speedup"] > 0 and row["share"] > 0
        assert (row["gradient_error"] is None) == (row["passes"] == "forward")
        assert (row["saved_bytes"] is None) == (row["passes"] != "forward+backward")
        assert (row["limit"] == "copy") == (row["name"] == "atb_blend")


def test_compare_matches_equal_cases_only(file, capsys):
    old = json.loads(file.read_text())
    for row in old["results"]:
        row["median_ms"] *= 4
    old["results"] = [r for r in old["results"] if r["name"] != "irm_update"]
    new = json.loads(file.read_text())
    text = report.compare(new, old)
    lines = [line for line in text.splitlines() if " -> " in line]
    assert len(lines) == len(old["results"]) and all(line.split()[0] == "0.25" for line in lines)
    assert "WARNING" not in text and "irm_update" not in text
    old["threads"]["torch"] += 1
    assert report.compare(new, old).startswith("WARNING: not the same machine")
    old["results"] = []
    assert "no row of an equal case" in report.compare(new, old)
    assert main(["--from", str(file), "--compare", str(file)]) == 0
    assert "1.00" in capsys.readouterr().out


def test_markdown_between_markers(file, tmp_path):
    target = tmp_path / "README.md"
    begin, end = markers.pair(offered.MARKER)
    target.write_text(f"above\n{begin}\nold\n{end}\nbelow\n")
    for _ in range(2):  # a second time gives the same
        assert main(["--from", str(file), "--markdown", str(target)]) == 0
    text = target.read_text()
    assert text.startswith(f"above\n{begin}\n") and text.endswith(f"{end}\nbelow\n")
    assert "old" not in text and text.count(begin) == 1
    assert "| atb_blend c=80 6x7 fp32 | forward |" in text and "gru+rirn step 12x8 fp32" in text
    (ratio,) = [line for line in text.splitlines() if line.startswith("| gru |")]
    times = [float(cell) for cell in ratio.split("|")[3:10]]
    assert times[4] == pytest.approx(times[1] / times[0], rel=0.1) and times[6] == 1.06
    widths = {
        line.count("|") for line in text.splitlines() if line.startswith("| gru ") or "base network" in line
    }
    assert len(widths) == 1


def test_selection_applies_to_what_is_read(file, tmp_path):
    target = tmp_path / "table.md"
    assert main(["--from", str(file), "--op", "ATB", "--pass", "forward", "--markdown", str(target)]) == 0
    rows = [line for line in target.read_text().splitlines() if line.startswith("| ") and "fp32 |" in line]
    assert len(rows) == 1 and rows[0].startswith("| ATB c=80 6x7 fp32 | forward |")


def test_plots(file, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["--from", str(file), "--plot", str(tmp_path / "plots")]) == 0
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"speedups.png", "roofline-fp32.png"}
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in (tmp_path / "plots").iterdir())


def test_plots_need_matplotlib(file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RirnError, match=r"pip install 'rirn\[bench\]'"):
        main(["--from", str(file), "--plot", str(tmp_path)])


@pytest.mark.parametrize("wrong", [1.001, float("nan")])
def test_a_mismatch_gets_no_number_and_fails(wrong, monkeypatch, capsys, tmp_path):
    honest = Entrant.forward

    def forward(self):
        out = honest(self)
        return [wrong * t for t in out] if self.competitor.name == "auto" else out

    monkeypatch.setattr(Entrant, "forward", forward)
    path = tmp_path / "wrong.json"
    assert main([*QUICK, "--op", "ATB", "--pass", "forward", "--json", str(path)]) == 1
    out = capsys.readouterr()
    lines = [line for line in out.out.splitlines() if line.startswith("  auto")]
    assert len(lines) == 2 and all("MISMATCH" in line and "not timed" in line for line in lines)
    assert "2 of 3 rows" in out.err
    rows = json.loads(path.read_text())["results"]
    assert [row["median_ms"] is None for row in rows] == [False, True, True]
    assert main(["--from", str(path), "--markdown", str(tmp_path / "table.md")]) == 1
    assert "| ATB" not in (tmp_path / "table.md").read_text()


def test_a_wrong_gradient_is_a_mismatch(monkeypatch, capsys):
    honest = Entrant.backward

    def backward(self, out):
        *rest, last = honest(self, out)
        return [*rest, 1.1 * last] if self.competitor.name == "auto" else [*rest, last]

    monkeypatch.setattr(Entrant, "backward", backward)
    assert main([*QUICK, "--op", "ATB", "--pass", "backward"]) == 1
    assert "2 of 3 rows" in capsys.readouterr().err


def test_half_precision_is_held_against_float32_too(tmp_path):
    path = tmp_path / "half.json"
    command = ["--op", "atb_blend", "--dtype", "bf16", "--pass", "forward", "--json", str(path)]
    assert main([*QUICK, *command]) == 0
    rows = {row["competitor"]: row for row in json.loads(path.read_text())["results"]}
    assert rows["fp32 reference"]["error"] < 1e-6 < rows["reference"]["error"]
    assert rows["fp32 reference"]["speedup_over_fp32"] == 1 and rows["reference"]["speedup_over_fp32"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "180"], "--size must be HEIGHTxWIDTH such as 180x320, got '180'"),
        (["--size", "0x4"], "--size must be"),
        (["--size", "1x32x270"], "--size must be HEIGHTxWIDTH such as 180x320, got '1x32x270'"),
        (["--size", "0x32x27x48"], "--size must be BATCHxCHANNELSxHEIGHTxWIDTH such as 1x32x270x480, got"),
        (["--frame", "180X320"], "--frame must be"),
        (["--clip", "8x128x128"], "--clip must be BATCHxFRAMESxHEIGHTxWIDTH such as 2x8x128x128"),
        (["--op", "irm_updat"], "no op 'irm_updat' to time; did you mean 'irm_update'"),
        (["--model", "ifirnn"], "no model 'ifirnn' to time; did you mean 'ifi-rnn'"),
        (["--only", "models", "--pass", "backward"], "no case has the passes asked for"),
        (["--rounds", "0"], "--rounds must be above 0 and finite, got 0"),
        (["--seconds", "-1"], "--seconds must be above 0 and finite, got -1"),
        (["--seconds", "nan"], "--seconds must be above 0 and finite, got nan"),
        (["--seconds", "inf"], "--seconds must be above 0 and finite, got inf"),
        (["--backend", "cuda"], "--backend cuda cannot run here"),
        (["--backend", "fast"], "'fast'.* is not a backend"),
        (["--device", "gpu"], "torch knows no device 'gpu'"),
        (["--from", "missing.json"], "cannot read results from missing.json"),
        (["--compare", "missing.json"], "cannot read results from missing.json"),
        (["--json", "missing/results.json"], "no folder missing to write results.json to"),
        (["--json", "."], r"\. is a folder; give the file to write"),
    ],
)
def test_bad_input_is_one_sentence(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RirnError, match=message) as refusal:
        main(["--device", "cpu", *options])
    assert "\n" not in str(refusal.value)


def test_files_of_another_kind_are_refused(file, tmp_path):
    plain = tmp_path / "plain.md"
    plain.write_text("no markers")
    with pytest.raises(RirnError, match="must have one line <!-- rirn bench -->"):
        main([*QUICK, "--markdown", str(plain)])
    other = tmp_path / "other.json"
    whole = json.loads(file.read_text())
    for content in (
        {"results": [{"op": "atb_blend"}]},
        [whole],
        {**whole, "results": None},
        {**whole, "results": [None]},
        {key: value for key, value in whole.items() if key != "versions"},
        {**whole, "results": [{key: value for key, value in whole["results"][0].items() if key != "size"}]},
    ):
        other.write_text(json.dumps(content))
        with pytest.raises(RirnError, match="holds no results of this command"):
            main(["--from", str(other)])
    elsewhere = json.loads(file.read_text())
    elsewhere["devices"][0]["model"] = "abacus"
    other.write_text(json.dumps(elsewhere))
    with pytest.raises(RirnError, match="different machines"):
        main(["--from", str(file), "--from", str(other)])
    with pytest.raises(RirnError, match="hold no row of what is asked for"):
        main(["--from", str(file), "--op", "fac"])
    with pytest.raises(RirnError, match="--from measures nothing"):
        main(["--from", str(file), "--size", "24x40"])
    with pytest.raises(RirnError, match="is a file; give --plot a folder"):
        main(["--from", str(file), "--plot", str(plain)])


def test_a_joined_report_names_the_commands_of_its_rows(file):
    first = json.loads(file.read_text())
    again = {**first, "command": "again", "commit": "2"}
    part = {**first, "results": first["results"][:1], "command": "part", "commit": "3"}
    assert report.join([first, again])["command"] == "again"
    joined = report.join([first, part])
    assert joined["command"] == f"{first['command']}\npart"
    assert len(joined["results"]) == len(first["results"])


def test_sizes_are_read():
    assert parse_size("--size", "180x320") == (180, 320)


def test_batch_and_channels_of_ops_and_modules(tmp_path):
    main(
        [
            "--size",
            "2x6x10x12",
            "--op",
            "irm_update",
            "--op",
            "ATB",
            "--quick",
            "--pass",
            "forward",
            "--json",
            str(tmp_path / "a"),
        ]
    )
    rows = json.loads((tmp_path / "a").read_text())["results"]
    assert {(row["name"], row["batch"], row["channels"], row["size"]) for row in rows} == {
        ("irm_update", 2, 6, "10x12"),
        ("ATB", 2, 6, "10x12"),
    }
    assert str(Case("ops", "irm_update", 6, 10, 12, "fp32", 2)) == "irm_update n=2 c=6 10x12 fp32"


def test_commit_is_a_hash_or_nothing():
    found = doctor.commit()
    assert found is None or set(found.rstrip("+")) <= set("0123456789abcdef")


def test_results_do_not_make_it_another_commit(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name in ("rirn/doctor.py", "bench/results/some.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "rirn" / "doctor.py"))
    clean = doctor.commit()
    (tmp_path / "bench" / "results" / "some.jsonl").write_text("2\n")
    assert doctor.commit() == clean and len(clean) == 12
    (tmp_path / "rirn" / "doctor.py").write_text("2\n")
    assert doctor.commit() == clean + "+"


def test_every_op_is_timed():
    assert all(op.channels for op in OPS.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_times_come_from_graphs(tmp_path):
    path = tmp_path / "gpu.json"
    command = ["--op", "atb_blend", "--device", "cuda", "--json", str(path)]
    assert main([*QUICK, *command]) == 0
    rows = json.loads(path.read_text())["results"]
    assert {row["competitor"] for row in rows} == set(available_backends("atb_blend", "cuda"))
    assert all(row["graph"] for row in rows if row["passes"] == "forward")
    assert not any(row["graph"] for row in rows if row["passes"] == "backward")
    assert all(row["median_ms"] > 0 for row in rows)


def test_run_as_a_module_it_says_in_one_sentence_what_cannot_be_written(file):
    command = [sys.executable, "-m", "rirn.bench", "--from", str(file), "--json", "/proc/now.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("rirn bench: cannot read or write /proc/")
