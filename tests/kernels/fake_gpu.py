"""A GPU that compiles Triton kernels and launches nothing: what a call compiles, and what Python takes for its launches.

``python -m tests.kernels.fake_gpu`` prints both for the convolution.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from triton.runtime.jit import _triton_jit_function_registry

from rirn.kernels import conv3x3, conv3x3_chain
from rirn.kernels.aot import Target, driven_by

SHARED = 227 << 10


class Driver(Target):
    """A GPU of that architecture on which launches do nothing, and whose tensors are those of the CPU."""

    def __init__(self, arch: int):
        super().__init__(arch)
        self.utils = SimpleNamespace(
            load_binary=lambda *args: (object(), object(), 0, 0, 1024),
            unload_module=lambda module: None,
            get_device_properties=lambda device: {"max_shared_mem": SHARED},
        )

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        return lambda *args: None


@contextlib.contextmanager
def fake_gpu(arch: int = 90) -> Iterator[None]:
    """Launch on a GPU of that architecture."""
    with driven_by(Driver(arch)):
        try:
            yield
        finally:
            for function in _triton_jit_function_registry.values():
                for kernel in function.device_caches.get(arch, [{}])[0].values():
                    kernel.module = None  # which the driver, gone by then, would be asked to unload


def compiled(kernel: Any, arch: int = 90) -> list[Any]:
    """What launches of a kernel on a GPU of that architecture have compiled so far."""
    return list(kernel.device_caches[arch][0].values())


def loads(ptx: str) -> dict[int, int]:
    """Loads from global memory in the code of a kernel, also those that go straight to shared memory, by bytes for a thread."""
    found: Counter[int] = Counter()
    for vector, bits in re.findall(r"\bld\.global(?:\.\w+::\w+|\.nc)*(?:\.v(\d))?\.[bfus](\d+)", ptx):
        found[int(vector or 1) * int(bits) // 8] += 1
    for size in re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*?, (0x[0-9a-f]+|\d+)", ptx):
        found[int(size, 0)] += 1
    return dict(sorted(found.items()))


def block(channels: int, dtype: torch.dtype, weights_last: bool) -> tuple[Any, ...]:
    """Result and arguments of a residual block, its images channels_last and its weights so or contiguous."""
    layout = torch.channels_last if weights_last else torch.contiguous_format
    images = [torch.zeros(1, channels, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)]
    weights = [
        torch.zeros(channels, channels, 3, 3, dtype=dtype).contiguous(memory_format=layout) for _ in range(2)
    ]
    biases = [torch.zeros(channels, dtype=dtype) for _ in range(2)]
    return torch.empty_like(images[0]), images, weights, biases, [0.0, 1.0], [0, 1], False, False


def main() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        for channels in (20, 64):
            for weights_last in (False, True):
                arguments = block(channels, dtype, weights_last)
                with fake_gpu():
                    known = len(compiled(conv3x3._conv))
                    conv3x3_chain.forward(*arguments)
                    new = compiled(conv3x3._conv)[known:]
                    times = []
                    for _ in range(200):
                        begin = time.perf_counter()
                        conv3x3_chain.forward(*arguments)
                        times.append(time.perf_counter() - begin)
                where = "channels_last" if weights_last else "contiguous"
                print(
                    f"{dtype}, {channels} channels, weights {where}: {1e6 * sorted(times)[20] / 2:.0f} us of Python a launch"
                )
                for kernel in new:
                    print(f"  loads by bytes: {loads(kernel.asm['ptx'])}")


if __name__ == "__main__":
    main()
