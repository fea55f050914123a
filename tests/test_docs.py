"""Every block of code in the README and in docs/ runs, or says why not; every command line is one that exists."""

import doctest
import functools
import glob
import importlib.util
import json
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml

from rirn import cli
from rirn.bench.__main__ import parser as bench_parser
from rirn.commands.data import ACTIONS
from rirn.data import write_png
from rirn.weights import shipped
from tests.data.layouts import gopro
from tests.pages import FENCE, LANGUAGES, ROOT, SHELL, blocks, commands, lines, pages
from tests.video.clips import write_clip

BLOCKS = [block for page in pages() for block in blocks(page)]
LINES = [(block, line) for block in BLOCKS if block.language in SHELL for line in lines(block)]
TOOLS = {
    *("cd", "cp", "export", "git", "mkdir", "source", "unzip"),
    *(
        "auditwheel",
        "ffmpeg",
        "ffplay",
        "ffprobe",
        "mypy",
        "nvidia-smi",
        "pre-commit",
        "pipx",
        "ruff",
        "tensorboard",
        "uv",
        "vspipe",
    ),
}
"""Programs that are not ours, of which nothing is checked."""

QUICK = ("docs/data.md", "docs/evaluation.md")
SLOW = ("README.md", "docs/README.md", "docs/deblur.md", "docs/training.md")
"""Pages whose commands run from the first to the last in one folder of small stand-ins."""

SMALLER = {
    "train": "--model.width 0.1 --data.frames 2 --data.crop 16 --data.batch 2 --data.workers 0 --optim.steps 1 "
    "--optim.epochs null --data.chunk null",
    "table": "--dry-run",
    "models": "--height 16 --width 16",
    "bench": "--quick",
    "export": "--height 16 --width 16",
}
"""Options that make a command of a page small enough to run, by the command."""


def of(*languages):
    found = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=str)


def may_run(block):
    return block.mark is None or (block.mark == "needs a GPU" and torch.cuda.is_available())


@of(*{block.language for block in BLOCKS})
def test_languages_are_known(block):
    assert block.language in LANGUAGES
    if block.language == "json":
        json.loads(block.text)
    if block.language == "yaml":
        yaml.safe_load(block.text)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_prose_is_wrapped(page):
    prose = FENCE.sub("", page.read_text(encoding="utf-8")).split("\n")
    assert [line for line in prose if len(line) > 140 and not line.startswith(("|", "<!--"))] == []


@of("python")
def test_python_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = compile(block.text, str(block), "exec")
    if may_run(block):
        exec(code, {"__name__": "__main__"})


@of("pycon")
def test_sessions_print_what_they_say(block):
    test = doctest.DocTestParser().get_doctest(block.text, {}, str(block), block.page, block.line)
    assert test.examples and doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


@functools.cache
def parser_of(command):
    return bench_parser() if command == "bench" else cli.COMMANDS[command][0]()


def parse(words):
    """Parse the words after ``rirn``; a wrong option ends the program, as it does on the command line."""
    if "--plugin" in words:  # of the command line as a whole
        at = words.index("--plugin")
        words = [*words[:at], *words[at + 2 :]]
    if words[0] == "data":  # its actions are known to the parser of all commands alone
        with patch.dict(cli.COMMANDS, data=(cli.COMMANDS["data"][0], lambda options: None)):
            assert cli.main(words) == 0
    elif words != ["--version"]:
        for word in words:
            if word.endswith(".yaml"):  # read while options are parsed
                Path(word).parent.mkdir(parents=True, exist_ok=True)
                Path(word).write_text("seed: 1\n")
        parser_of(words[0]).parse_args(words[1:])


def after(words, module):
    """The words behind ``-m module``, or None."""
    for i in range(len(words) - 1):
        if words[i : i + 2] == ["-m", module]:
            return words[i + 2 :]
    return None


def understand(words):
    """Hold one program of a shell line against what there is."""
    name, rest = Path(words[0]).name, words[1:]
    if name == "rirn":
        parse(rest)
    elif name == "torchrun":
        parse(after(rest, "rirn"))
    elif name == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif name == "pip":
        extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        for asked in re.findall(r"(?:rirn|\.)\[([\w,]+)\]", " ".join(rest)):
            assert set(asked.split(",")) <= set(extras)
    elif name.startswith("python") and rest[0] == "-c":
        compile(rest[1], "-c", "exec")
    elif name.startswith("python") and rest[0] == "-m":
        if rest[1] in ("rirn", "rirn.bench"):
            parse(rest[2:] if rest[1] == "rirn" else ["bench", *rest[2:]])
        else:
            assert importlib.util.find_spec(rest[1])
    elif name.startswith("python"):
        assert (ROOT / rest[0]).is_file()
    elif name == "pytest":
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests"))
    else:
        assert name in TOOLS


@pytest.mark.parametrize("block, line", LINES, ids=[f"{block}-{line[:40]}" for block, line in LINES])
def test_shell_lines_are_understood(block, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in commands(line):
        understand(words)


@pytest.mark.parametrize(
    "page", [*pages(), *ROOT.glob("bench/results/*.md")], ids=lambda page: str(page.relative_to(ROOT))
)
def test_commands_in_sentences_exist(page):
    if page.name == "CHANGELOG.md":  # it names commands of earlier versions
        return
    for command in re.findall(r"`((?:rirn|make) [^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
        name, first, *rest = command.split()
        if name == "make":
            understand([name, first])
        else:
            parser = ACTIONS[rest[0]][0]() if first == "data" else parser_of(first)
            known = parser.format_help()
            assert all(re.search(rf"{word}\b", known) for word in rest if word.startswith("--")), command


def runs(block, line):
    """Whether a line runs here: one of our commands, alone, that waits for no pipe and no camera."""
    words = commands(line)
    ours = len(words) == 1 and (words[0][0] == "rirn" or after(words[0], "rirn"))
    return ours and may_run(block) and not re.search(r" - |camera:", line)


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A folder with everything that the pages name, small."""
    monkeypatch.chdir(tmp_path)
    for folder in ("GOPRO_Large", "data/GOPRO_Large", "mine"):
        gopro(
            Path(folder),
            ["train/GOPR0372_07_00", "test/GOPR0384_11_00", "test/GOPR0410_11_00"],
            frames=6,
            size=(24, 20),
        )
    for name, frames in {"ride": 4, "holiday": 4, "ride240fps": 14, "clips/a": 2, "clips/b": 2}.items():
        Path(name).parent.mkdir(exist_ok=True)
        write_clip(Path(f"{name}.mp4"), frames=frames, audio=("aac",) if name == "ride" else ())
    write_clip(Path("in.mov"), frames=2)
    photo = np.random.default_rng(0).integers(0, 256, (400, 700, 3), dtype=np.uint8)
    for folder in ("photos", "photos/train", "photos/test", "blur", "restored", "truth"):
        Path(folder).mkdir(exist_ok=True)
        write_png(Path(folder) / "0.png", photo if "photos" in folder else photo[:24, :32])
    for folder in (
        "footage240fps",
        *(f"data/{name}" for name in ("GOPRO_Large_all/train", "interpolated", "clips", "photos")),
    ):
        (Path(folder) / "one").mkdir(parents=True)
        for i in range(2):
            write_png(Path(folder) / "one" / f"{i}.png", photo[i : i + 24, :32])
    write_png(Path("data/photos/0.png"), photo[:64, :64])
    Path("runs/mine").mkdir(parents=True)
    shutil.copy(shipped()["rirn-small"], "runs/mine/weights.safetensors")


@pytest.mark.parametrize(
    "page", [*QUICK, *(pytest.param(page, marks=pytest.mark.slow) for page in SLOW)], ids=str
)
def test_commands_of_a_page_run(page, stand_ins):
    pytest.importorskip("skimage")
    count = 0
    for block, line in LINES:
        if block.page == page and runs(block, line):
            (words,) = commands(line.replace("~/", ""))
            words = after(words, "rirn") or words[1:]
            words = [path for word in words for path in sorted(glob.glob(word)) or [word]]  # as a shell does
            smaller = SMALLER.get(words[0], "")
            if "--model.start" in words:  # whose settings hold
                smaller = smaller.replace("--model.width 0.1", "")
            assert cli.main([*words, *smaller.split()]) == 0, f"{block}: {line}"
            count += 1
    assert count


def test_there_is_something_to_test():
    used = {words[1] for _, line in LINES for words in commands(line) if Path(words[0]).name == "rirn"}
    assert set(cli.COMMANDS) - {"convert", "demo"} <= used
    assert {block.page for block in BLOCKS if block.language == "python"} >= {
        "README.md",
        "docs/cuda-graphs.md",
    }


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_the_first_page_leads_to_all_others():
    named = set(re.findall(r"\]\(([\w./-]+\.md)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} == {
        name for name in named if "/" not in name
    }
    assert {"../README.md", "../ARCHITECTURE.md", "../CONTRIBUTING.md", "../CHANGELOG.md"} <= named


def test_speedups_of_the_readme_are_those_of_the_results():
    def rows(page):
        found = re.findall(
            r"^\| (.+?) \| (forward\S*) \|(.*)\|$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE
        )
        return {
            (what.replace("`", ""), passes): re.findall(r"([\d.]+)x", rest)[:2]
            for what, passes, rest in found
        }

    committed = rows("bench/results/cpu-xeon-avx512-2threads.md")
    printed = rows("README.md")
    assert printed
    for (what, passes), speedups in printed.items():
        what = what.removesuffix(", a residual block")
        case = what.replace(", bf16", " bf16") if what.endswith("bf16") else f"{what} fp32"
        assert speedups == committed[case, passes], what
