"""Which implementation of an op runs (auto, reference, cpu, cuda or triton), and why another one cannot.

The name is taken from the first of these that is set: the ``backend=`` argument, the innermost :func:`use_backend`
block of the current thread, the environment variable ``RIRN_BACKEND`` when rirn was imported; else it is ``auto``.
A backend requested by name either runs or raises; only ``auto`` falls back.

==========  =================================================================================================
auto        CPU tensors: cpu, else reference. CUDA tensors: cuda, else triton, else reference. Others:
reference reference   plain PyTorch on any device, differentiable twice
cpu         the compiled library's CPU kernels
cuda        the compiled library's CUDA kernels, if they were built for the device's architecture
triton      Triton kernels, compiled just in time
==========  =================================================================================================
"""

from __future__ import annotations

import ctypes
import difflib
import functools
import importlib
import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rirn.errors import RirnError
from rirn.ops._library import library
from rirn.ops.spec import INFERENCE_OPS, OPS, Op

ENVIRONMENT_VARIABLE = "RIRN_BACKEND"

# Read once, when rirn is imported: torch.compile guards on a global but not on a variable missing from
# os.environ, so a model compiled before the variable was set would ignore it while eager calls follow it.
_environment = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"


class Reference:
    """Plain PyTorch."""

    name = "reference"

    def why_not(self, op: str, device: torch.device | str) -> str | None:
        """Return None: the reference runs everywhere."""
        return None


class Cpu:
    """The compiled library's CPU kernels."""

    name = "cpu"

    def why_not(self, op: str, device: torch.device | str) -> str | None:
        """Return None if the CPU kernel of ``op`` can run on ``device``, otherwise the reason in words."""
        if torch.device(device).type != "cpu":
            return f"it works on CPU tensors, and these are on {torch.device(device)}"
        return library().reason or _why_no_kernel(op, "CPU")


class Cuda:
    """The compiled library's CUDA kernels."""

    name = "cuda"

    def why_not(self, op: str, device: torch.device | str) -> str | None:
        """Return None if the CUDA kernel of ``op`` can run on ``device``, otherwise the reason in words."""
        if torch.device(device).type != "cuda":
            return f"it works on CUDA tensors, and these are on {torch.device(device)}"
        if not library().loaded:
            return library().reason
        archs = cuda_archs()
        if not archs:
            return "the compiled library was built without CUDA kernels: reinstall rirn where nvcc is found"
        missing = why_no_gpu()
        if missing:
            return missing
        capability = torch.cuda.get_device_capability(device)
        wanted = "{}.{}".format(*capability)
        cure = f"reinstall rirn with TORCH_CUDA_ARCH_LIST={wanted}"
        if not any(_arch_runs_on(arch, capability) for arch in archs):
            return f"its kernels were built for {', '.join(archs)} and {device} is of compute capability {wanted}: {cure}"
        ready = any(_arch_runs_on(arch.removesuffix("+PTX"), capability, ptx=False) for arch in archs)
        built, known = _version(library().build.get("cuda_version")), driver_cuda()
        if not ready and built and known and known < built:
            return (
                "its kernels for {} are PTX of CUDA {}.{}, and the driver only knows CUDA up to {}.{}: update the driver, or {}"
            ).format(device, *built, *known, cure)
        return _why_no_kernel(op, "CUDA")


class Triton:
    """Triton kernels, compiled just in time."""

    name = "triton"

    def why_not(self, op: str, device: torch.device | str) -> str | None:
        """Return None if the Triton kernel of ``op`` can run on ``device``, otherwise the reason in words."""
        try:
            kernels = importlib.import_module("rirn.kernels")
        except ModuleNotFoundError as error:
            return f"the Triton kernels are not installed ({error}): run `pip install -e .` in the checkout"
        if not has_triton(op):
            return f"there is no Triton kernel of {op}, only of {', '.join(OPS)}"
        missing: str | None = kernels.why_not()
        if missing:
            return missing
        kind = torch.device(device).type
        if kind == "cpu" and kernels.interpreted():
            return None
        if kind != "cuda":
            return f"it works on CUDA tensors, and these are on {torch.device(device)}"
        return why_no_gpu()


BACKENDS = {backend.name: backend for backend in (Reference(), Cpu(), Cuda(), Triton())}
NAMES = ("auto", *BACKENDS)
AUTO_ORDER = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}


def cuda_archs() -> tuple[str, ...]:
    """Return the GPU architectures that the compiled library holds kernels for, as the build named them."""
    return tuple(str(arch) for arch in library().build.get("cuda_archs", ()))


def why_no_gpu() -> str | None:
    """Return None if torch can use a GPU here, otherwise the reason in words."""
    if torch.version.cuda is None:
        return f"this torch {torch.__version__} was built without CUDA"
    return None if torch.cuda.is_available() else "torch sees no CUDA device here"


def has_kernel(op: str, key: str) -> bool:
    """Tell whether the compiled library, which must be loaded, has a kernel of ``op`` for a dispatch key."""
    return hasattr(torch.ops.rirn, op) and torch._C._dispatch_has_kernel_for_dispatch_key(f"rirn::{op}", key)


def has_triton(op: str) -> bool:
    """Tell whether ``rirn.kernels`` has kernels of ``op``."""
    triton = OPS[op].triton if op in OPS else None
    try:
        return importlib.util.find_spec(f"rirn.kernels.{triton[0] if triton else op}") is not None
    except ModuleNotFoundError:
        return False


def find_op(name: str) -> Op:
    """Return the op with this name.

    Raises:
        RirnError: there is no such op.
    """
    if name not in OPS:
        near = difflib.get_close_matches(name, OPS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RirnError(f"{name!r} is not an op, choose one of {', '.join(OPS)}{hint}")
    return OPS[name]


def _why_no_kernel(op: str, key: str) -> str | None:
    return None if has_kernel(op, key) else f"the compiled library holds no {key} kernel of {op}"


@functools.lru_cache(maxsize=1)
def driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA version that the driver knows, or None if it does not say."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def _version(text: str | None) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", text or "")
    return None if match is None else (int(match[1]), int(match[2]))


def _arch_runs_on(arch: str, capability: tuple[int, int], *, ptx: bool = True) -> bool:
    """Tell whether code for e.g. ``8.0``, ``sm_80``, ``90a`` or ``9.0+PTX`` runs on a device of this compute
    capability.

    Machine code runs on the same major version from its own minor upwards, code with the suffix ``a`` on its
    own version alone, and PTX, compiled by the driver, on everything newer; not counted with ``ptx=False``.
    """
    match = re.fullmatch(r"(?:sm_|compute_)?(\d+)\.?(\d)([af]?)(\+PTX)?", arch)
    if match is None:
        return False
    built = (int(match[1]), int(match[2]))
    if match[3] == "a":
        return built == capability
    if match[4] or arch.startswith("compute_"):
        return ptx and built <= capability
    return built[0] == capability[0] and built[1] <= capability[1]


class _Thread(threading.local):
    """The backend that :func:`use_backend` asked for, per thread.

    Not a ContextVar, which torch.compile cannot trace. It does guard on the attributes of a thread-local, and
    correctly across threads as long as __init__ sets them; a default in a class attribute would be shared
    by the guards of all threads.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.assumed: str | None = None


_thread = _Thread()


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every op inside the block, in this thread, on the backend ``name`` unless the call itself names
    another one.

    Args:
        name: ``auto``, ``reference``, ``cpu``, ``cuda`` or ``triton``.

    Raises:
        RirnError: the name is unknown. A backend that cannot run raises only when an op is called, since that
            depends on the device.

    Example:
        >>> import torch
        >>> from rirn.ops import atb_blend, use_backend
        >>> x = torch.ones(1, 2, 3, 3)
        >>> with use_backend("reference"):
        ...     y = atb_blend(x, x, x, x)
    """
    _check_name(name, "use_backend")
    before = _thread.name
    _thread.name = name
    try:
        yield
    finally:
        _thread.name = before


@contextmanager
def assume(name: str) -> Iterator[None]:
    """Let every op inside the block, in this thread, take the backend ``name`` whether or not it can run here.

    This is for fake tensors, which pass through an op whose kernel could not be launched here, so a program takes the
    path that it would take on another machine. Other requests for a backend only decide whether an op may hand over
    to torch, as it may under ``auto``.

    Args:
        name: ``reference``, ``cpu``, ``cuda`` or ``triton``.

    Raises:
        RirnError: the name is unknown.
    """
    _check_name(name, "assume", tuple(BACKENDS))
    before = _thread.assumed
    _thread.assumed = name
    try:
        yield
    finally:
        _thread.assumed = before


def backend_in_use() -> str:
    """Return the name that :func:`use_backend`, or else ``RIRN_BACKEND``, requests in this thread; may be ``auto``.

    Example:
        >>> from rirn.ops.backends import backend_in_use, use_backend
        >>> with use_backend("reference"):
        ...     backend_in_use()
        'reference'
    """
    return _asked(None)[0]


def why_not(backend: str, op: str, device: torch.device | str = "cpu") -> str | None:
    """Return None if ``backend`` can run ``op`` on tensors of ``device``, otherwise the reason in words.

    Raises:
        RirnError: there is no such backend.

    Example:
        >>> from rirn.ops import why_not
        >>> why_not("cuda", "atb_blend", "cpu")
        'it works on CUDA tensors, and these are on cpu'
    """
    if backend == "auto":
        return None
    _check_name(backend, "why_not")
    return BACKENDS[backend].why_not(op, device)


def available_backends(op: str, device: torch.device | str = "cpu") -> list[str]:
    """Return the names of the backends that can run ``op`` on tensors of ``device``, with the choice of
    ``auto`` first.

    Raises:
        RirnError: there is no such op.

    Example:
        >>> from rirn.ops import available_backends
        >>> available_backends("atb_blend")[-1]
        'reference'
    """
    if op not in INFERENCE_OPS:
        find_op(op)
    order = AUTO_ORDER.get(torch.device(device).type, ("reference",))
    names = [*(n for n in order if n != "reference"), *(n for n in BACKENDS if n not in order), "reference"]
    return [name for name in names if BACKENDS[name].why_not(op, device) is None]


def choose(op: str, device: torch.device, backend: str | None = None) -> str:
    """Return the name of the backend that a call of ``op`` on tensors of ``device`` runs on; never ``auto``.

    Raises:
        RirnError: the name is unknown, or the backend was requested by name and cannot run.
    """
    if _thread.assumed is not None:
        return _thread.assumed
    return _pick(op, device, *_asked(backend))


def is_auto(backend: str | None = None) -> bool:
    """Whether a call leaves the choice to us, so that an op may use the reference where that is faster."""
    return _asked(backend)[0] == "auto"


def _asked(backend: str | None) -> tuple[str, str]:
    """The backend that a call with ``backend=`` requests, and by what means."""
    if backend is not None:
        return backend, "backend="
    if _thread.name is not None:
        return _thread.name, "use_backend"
    return _environment, ENVIRONMENT_VARIABLE


def _pick(op: str, device: torch.device, name: str, asked_by: str) -> str:
    return _pick_once(op, device, name, asked_by)


# The answer depends on the arguments and on facts that do not change while the process lives (what is
# installed, which GPUs there are). torch.compile may therefore treat it as a constant: it guards on the
# arguments, and nothing else can change. torch.compiler.assume_constant_result sets the same mark, but the
# decorator itself would import all of torch._dynamo, which takes seconds and most users of rirn never need.
_pick._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _pick_once(op: str, device: torch.device, name: str, asked_by: str) -> str:
    _check_name(name, asked_by)
    if name == "auto":
        order = AUTO_ORDER.get(device.type, ("reference",))
        name = next(n for n in order if BACKENDS[n].why_not(op, device) is None)
    else:
        reason = BACKENDS[name].why_not(op, device)
        if reason is not None:
            raise RirnError(
                f"the backend {name!r} ({asked_by}) cannot run {op}: {reason}; `auto` takes another"
            )
    return name


def _check_name(name: str, asked_by: str, names: tuple[str, ...] = NAMES) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RirnError(f"{name!r} ({asked_by}) is not a backend, choose one of {', '.join(names)}{hint}")
