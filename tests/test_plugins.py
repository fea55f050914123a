"""Networks and losses of one's own: registered, found, named in weights; and the page that shows how."""

import os
import pydoc
import shlex
import subprocess
import sys
import textwrap

import pytest
import torch

import rirn
from rirn import RirnError
from rirn.models.ifi_rnn import IFIRNN
from rirn.models.registry import BASES
from rirn.plugins import find_plugins, load_plugin, take_plugins
from tests.data.layouts import gopro
from tests.pages import ROOT, blocks, lines
from tests.video.clips import write_clip

PAGE = ROOT / "docs" / "extending.md"


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch):
    """What a test loads is gone after it."""
    modules = set(sys.modules)
    monkeypatch.setattr("rirn.plugins._found", False)
    monkeypatch.delenv("RIRN_PLUGINS", raising=False)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]


def plugin(folder, name, text):
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    return path


SMALL = """
    import rirn
    from rirn.models.ifi_rnn import IFIRNN

    @rirn.register_base("{name}")
    class Own(IFIRNN):
        def __init__(self, *, width: float = 1.0, depth: int = 1):
            super().__init__(width=width, blocks=depth)
"""


def test_a_registered_network_has_every_addition():
    class Own(IFIRNN):
        pass

    assert rirn.register_base("own-net")(Own) is Own
    assert {"own-net", "own-net+rirn", "own-net+control"} <= set(rirn.model_names())
    model = rirn.create_model("own-net+rirn", width=0.2)
    assert isinstance(model.base, Own) and model(torch.rand(1, 2, 3, 16, 16)).shape == (1, 2, 3, 16, 16)
    rirn.register_base("own-net")(Own)  # once more, as a module that is loaded again does


@pytest.mark.parametrize("name", ["Own", "own net", "own+rirn", "", "-own"])
def test_names_have_a_form(name):
    with pytest.raises(RirnError, match="a base network cannot be called"):
        rirn.register_base(name)(IFIRNN)


def test_what_is_no_network_or_taken_is_refused():
    with pytest.raises(RirnError, match="must be a class derived from BaseNetwork"):
        rirn.register_base("own")(torch.nn.Module)

    class Other(IFIRNN):
        pass

    with pytest.raises(
        RirnError, match=r"there is a base network 'ifi-rnn' already, of rirn\.models\.ifi_rnn"
    ):
        rirn.register_base("ifi-rnn")(Other)
    with pytest.raises(RirnError, match="there is a loss 'l1' already"):
        rirn.register_loss("l1")(lambda restored, sharp: 0)


def test_weights_say_which_plugin_they_need(tmp_path, monkeypatch):
    path = plugin(tmp_path, "own_shallow", SMALL.format(name="own-shallow"))
    load_plugin(str(path))
    load_plugin(str(path))  # once is enough
    model = rirn.create_model("own-shallow+irm", width=0.2, depth=2)
    rirn.save_weights(model, tmp_path / "w.safetensors")
    assert rirn.load(tmp_path / "w.safetensors").config["depth"] == 2
    del BASES["own-shallow"], sys.modules["own_shallow"]
    with pytest.raises(
        RirnError, match=r"need the network 'own-shallow\+irm' of the plugin 'own_shallow\.py'"
    ):
        rirn.load(tmp_path / "w.safetensors")
    assert "own_shallow" not in sys.modules  # a file's word is no reason to run code
    monkeypatch.setattr("rirn.plugins._found", False)
    monkeypatch.setenv("RIRN_PLUGINS", str(path))
    assert rirn.load(tmp_path / "w.safetensors").config["depth"] == 2


def test_plugins_of_the_environment_and_of_packages_are_found_by_name(tmp_path, monkeypatch):
    first = plugin(tmp_path, "own_first", SMALL.format(name="own-first"))
    plugin(tmp_path, "own_second", SMALL.format(name="own-second"))
    info = tmp_path / "own_pack-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-pack\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[rirn.plugins]\nsecond = own_second\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RIRN_PLUGINS", os.pathsep.join(["", str(first)]))
    assert rirn.create_model("own-second", width=0.2).config["name"] == "own-second"
    assert "own-first" in BASES


def test_plugins_of_a_command_line_are_taken_from_any_place(tmp_path, monkeypatch):
    path = plugin(tmp_path, "own_line", SMALL.format(name="own-line"))
    monkeypatch.chdir(tmp_path)
    assert take_plugins(["train", "--plugin", "own_line.py", "--out", "x"]) == ["train", "--out", "x"]
    assert "own-line" in BASES and os.environ["RIRN_PLUGINS"] == str(path)
    assert take_plugins([f"--plugin={path}", "models"]) == ["models"]
    assert os.environ["RIRN_PLUGINS"] == str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", r"the plugin .*own_bad\.py cannot be loaded \(ZeroDivisionError: division by zero\)"),
        ("import nowhere_to_be_found", r"cannot be loaded \(ModuleNotFoundError"),
        ("def", r"cannot be loaded \(SyntaxError"),
        ("import rirn\nrirn.register_base('own')(int)", "must be a class derived from BaseNetwork"),
    ],
)
def test_a_plugin_that_fails_is_one_sentence(tmp_path, text, message):
    path = plugin(tmp_path, "own_bad", text)
    with pytest.raises(RirnError, match=message):
        load_plugin(str(path))
    assert "own_bad" not in sys.modules


def test_plugins_that_are_not_there(tmp_path):
    with pytest.raises(RirnError, match=r"the plugin own_nothing cannot be loaded \(ModuleNotFoundError"):
        load_plugin("own_nothing")
    with pytest.raises(RirnError, match=r"own_no\.py cannot be loaded \(FileNotFoundError"):
        load_plugin(str(tmp_path / "own_no.py"))
    with pytest.raises(RirnError, match="has the name of another module; give the file another name"):
        load_plugin(str(plugin(tmp_path, "json", "")))
    with pytest.raises(RirnError, match="--plugin needs a module"):
        take_plugins(["train", "--plugin"])
    find_plugins()  # nothing is named


def test_help_says_what_each_attribute_is():
    described = pydoc.render_doc(rirn.BaseNetwork, renderer=pydoc.plaintext)
    attributes = [name for name in rirn.BaseNetwork.__annotations__ if not name.startswith("_")]
    assert {"channels", "state_channels", "state_strides", "head_reads", "feature_window"} <= set(attributes)
    assert [name for name in attributes if f" {name}: " not in described] == []


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path):
    gopro(tmp_path / "GOPRO_Large", ["train/GOPR0372_07_00", "test/GOPR0384_11_00"], frames=6, size=(24, 20))
    write_clip(tmp_path / "ride.mp4", frames=4)
    found = blocks(PAGE)
    (tmp_path / "shallow.py").write_text(next(b.text for b in found if "register_base" in b.text))
    smaller = [
        "--model.width",
        "0.25",
        "--data.frames",
        "2",
        "--data.crop",
        "16",
        "--data.batch",
        "2",
        "--data.workers",
        "0",
    ]
    smaller += ["--optim.steps", "1"]
    count = 0
    for line in (line for block in found if block.language == "" for line in lines(block)):
        words = shlex.split(line)
        words += smaller if words[1] == "train" else []
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        count += 1
    assert count == 3 and (tmp_path / "own.mp4").exists()
