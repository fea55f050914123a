"""How much memory `--tile auto` takes for free, with the limits that containers, schedulers and shells set."""

import resource

import pytest
import torch

from rirn.video import memory

GIB = 1 << 30
V1, V2 = "4:cpu,cpuacct:/\n3:memory:/job/step\n0::/job\n", "0::/job/step\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes the files of a machine with 8 GiB free."""
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "proc/self")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")

    def write(files):
        for name, text in {
            "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable:  {8 * GIB // 1024} kB\n",
            **files,
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def group(place, limit, used, cached=0, version=2):
    """Files of a control group; ``cached`` bytes of those used are pages of files."""
    if version == 1:
        names, field = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"
    else:
        names, field = ("memory.max", "memory.current"), "inactive_file"
    texts = (str(limit), str(used), f"anon 1\n{field} {cached}\nactive_file 7\n")
    return {
        f"groups/{place}/{n}": text + "\n" for n, text in zip((*names, "memory.stat"), texts, strict=True)
    }


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8 * GIB),
        ({"proc/self/cgroup": V2}, 8 * GIB),  # with files of no group, as in some sandboxes
        ({"proc/self/cgroup": V2} | group("job/step", "max", GIB) | group("job", 4 * GIB, 3 * GIB), GIB),
        ({"proc/self/cgroup": V2} | group("job/step", 4 * GIB, 4 * GIB, 2 * GIB), 2 * GIB),
        ({"proc/self/cgroup": "0::/\n"} | group(".", 3 * GIB, GIB), 2 * GIB),
        # A container that sees its own group where others have the root.
        ({"proc/self/cgroup": V1} | group("memory", 5 * GIB, 3 * GIB, GIB, version=1), 3 * GIB),
        ({"proc/self/cgroup": V1} | group("memory/job/step", 2**63 - 4096, GIB, version=1), 8 * GIB),
    ],
)
def test_the_narrowest_limit_counts(system, files, free):
    system(files)
    assert memory.free_bytes(torch.device("cpu")) == free


def test_the_address_space_may_be_limited(system, monkeypatch):
    system({"proc/self/statm": f"{GIB // resource.getpagesize()} 7 7 7\n"})
    assert memory.free_bytes(torch.device("cpu")) == 8 * GIB
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (3 * GIB, 9 * GIB))
    assert memory.free_bytes(torch.device("cpu")) == 2 * GIB


def test_a_system_that_says_nothing(system, tmp_path):
    assert memory.free_bytes(torch.device("cpu")) is None
