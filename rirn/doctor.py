"""What runs here and what does not, with reasons: the text for a bug report."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from rirn.ops import backends, tuning
from rirn.ops._library import library
from rirn.ops.backends import BACKENDS, OPS, available_backends, why_no_gpu, why_not

# Distributions, not modules: reading a version must not import the package, which may be what is broken.
DISTRIBUTIONS = ("rirn", "torch", "triton", "numpy", "av", "safetensors")
OPTIONAL = ("scikit-image", "tensorboard", "matplotlib", "onnx", "onnxscript", "onnxruntime")

# Every variable of ours that something reads; the table in CONTRIBUTING.md says what they do.
VARIABLES = (
    "RIRN_BACKEND",
    "RIRN_CPU_ISA",
    "RIRN_BUILD_CPU",
    "RIRN_BUILD_CUDA",
    "RIRN_BUILD_TRITON",
    "RIRN_BUILD_SANITIZE",
    "RIRN_PLUGINS",
    "RIRN_TUNING",
)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    """Main memory in GiB, if the system tells."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return round(pages / 2**30, 1)


def devices() -> list[dict[str, Any]]:
    """Return one entry per device torch can use: ``name`` as torch spells it, ``model``, and for a GPU its
    memory."""
    cpu = {
        "name": "cpu",
        "model": _cpu_name(),
        "cores": os.cpu_count(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "memory_GiB": _memory(),
    }
    found: list[dict[str, Any]] = [cpu]
    for i in range(torch.cuda.device_count() if why_no_gpu() is None else 0):
        properties = torch.cuda.get_device_properties(i)
        found.append(
            {
                "name": f"cuda:{i}",
                "model": properties.name,
                "capability": f"{properties.major}.{properties.minor}",
                "memory_GiB": round(properties.total_memory / 2**30, 1),
            }
        )
    return found


def kernels(op: str) -> dict[str, Any]:
    """Return which forms of an op are installed, whether or not they can run here: ``cpu`` and ``triton`` are true or false,
    ``cuda`` the architectures for which the compiled library has its kernel."""
    loaded = library().loaded
    return {
        "cpu": loaded and backends.has_kernel(op, "CPU"),
        "cuda": list(backends.cuda_archs()) if loaded and backends.has_kernel(op, "CUDA") else [],
        "triton": backends.has_triton(op),
    }


def commit() -> str | None:
    """Return the commit of the checkout that rirn is imported from, with ``+`` if files other than results differ;
    None for an install."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    git = ["git", "-C", str(root)]
    head = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    if head.returncode != 0:
        return None
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno", "--", ".", ":!bench/results"],
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def report() -> dict[str, Any]:
    """Return the facts as a dictionary of JSON types; works without the compiled library, without Triton,
    without a GPU.

    Keys: ``install`` (folder and, of a checkout, commit), ``platform`` (system, machine, C library, interpreter),
    ``versions`` and ``optional`` (of what is required and what is not; None: not installed), ``library`` (path, loaded,
    why_not, isa, build), ``devices``, ``why_no_gpu``, ``backends`` (op -> device -> {"auto": name, name: None or why
    not}), ``left_to_library`` (op -> type of device -> what ``auto`` runs on torch's own convolutions all the same),
    ``tuning`` (GPU -> where ``auto`` has its widths from), ``threads``, ``environment`` (every ``RIRN_`` variable that
    is set), ``unknown_variables`` (those of them that nothing reads).

    ``kernels`` has what :func:`kernels` says of each op.
    """
    compiled = library()
    here = devices()
    # Without a GPU, say why the GPU backends cannot run on one, rather than that they do not take CPU
    # tensors.
    names = [device["name"] for device in here] if len(here) > 1 else ["cpu", "cuda"]
    environment = {name: value for name, value in sorted(os.environ.items()) if name.startswith("RIRN_")}
    return {
        "install": {"folder": str(Path(__file__).resolve().parent), "commit": commit()},
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()).strip() or None,
            "interpreter": sys.executable,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in DISTRIBUTIONS},
            "torch_cuda": torch.version.cuda,
        },
        "optional": {name: _version(name) for name in OPTIONAL},
        "library": {
            "path": compiled.path,
            "loaded": compiled.loaded,
            "why_not": compiled.reason,
            "isa": compiled.isa,
            "build": compiled.build,
        },
        "devices": here,
        "why_no_gpu": why_no_gpu(),
        "kernels": {op: kernels(op) for op in OPS},
        "backends": {
            op: {
                name: {"auto": available_backends(op, name)[0], **{b: why_not(b, op, name) for b in BACKENDS}}
                for name in names
            }
            for op in OPS
        },
        "left_to_library": {op: dict(found.left_in_words) for op, found in OPS.items()},
        "tuning": {
            device["name"]: f"measured, {tuning.path()}"
            if tuning.measured(torch.device(device["name"]))
            else "counted; rirn bench --tune measures"
            for device in here
            if device["name"].startswith("cuda")
        },
        "threads": {"torch": torch.get_num_threads(), "interop": torch.get_num_interop_threads()},
        "environment": environment,
        "unknown_variables": [name for name in environment if name not in VARIABLES],
    }


def _section(title: str, rows: dict[str, Any]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [title, *(f"  {name:<{width}}  {value}" for name, value in rows.items()), ""]


def format_report(report: dict[str, Any]) -> str:
    """Return the report of :func:`report` as text, one fact per line."""
    install = {name: value for name, value in (report["install"] | report["platform"]).items() if value}
    lines = _section("rirn", install)
    versions = {
        name: version or "not installed"
        for name, version in (report["versions"] | report["optional"]).items()
    }
    versions["torch_cuda"] = report["versions"]["torch_cuda"] or "none: this torch was built without CUDA"
    lines += _section("versions", versions)

    compiled = report["library"]
    if compiled["loaded"]:
        rows = {"path": compiled["path"], "SIMD picked": compiled["isa"]}
        rows |= {name: _words(value) for name, value in compiled["build"].items()}
    else:
        rows = {"not loaded": compiled["why_not"]}
    lines += _section("compiled library", rows)

    described = {}
    for device in report["devices"]:
        facts = [
            f"{name} {_words(value)}"
            for name, value in device.items()
            if name not in ("name", "model") and value is not None
        ]
        described[device["name"]] = f"{device['model']} ({', '.join(facts)})"
    if report["why_no_gpu"]:
        described["cuda"] = report["why_no_gpu"]
    lines += _section("devices", described)
    lines += _section("threads", report["threads"])
    if report["tuning"]:
        lines += _section("widths of auto", report["tuning"])

    lines += _section("kernels", {op: _forms(held) for op, held in report["kernels"].items()})

    # Ops mostly agree with each other, so those with the same answers share a paragraph.
    groups: dict[str, list[str]] = {}
    for op, by_device in report["backends"].items():
        rows = {}
        for device, answers in by_device.items():
            rows[f"{device}: auto"] = answers["auto"]
            left = report["left_to_library"].get(op, {}).get(device.partition(":")[0])
            if left and answers["auto"] != "reference":
                rows[f"{device}: auto"] += f", but leaves to torch {left}"
            rows |= {f"{device}: {b}": answers[b] or "yes" for b in BACKENDS}
        groups.setdefault("\n".join(_section("", rows)).replace(f" of {op}", " of it"), []).append(op)
    for text, ops in groups.items():
        lines += [f"backends of {', '.join(ops)}" + text]

    settings = {
        name: f"{value} (nothing reads this variable)" if name in report["unknown_variables"] else value
        for name, value in report["environment"].items()
    }
    lines += _section("environment", settings or {"RIRN_*": "none set"})
    return "\n".join(lines).rstrip() + "\n"


def _forms(held: dict[str, Any]) -> str:
    """What :func:`kernels` says, in words."""
    cuda = [f"CUDA for {', '.join(held['cuda'])}"] if held["cuda"] else []
    forms = [*(["CPU"] if held["cpu"] else []), *cuda, *(["Triton"] if held["triton"] else [])]
    return "; ".join(forms) or "none: the reference alone"


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
