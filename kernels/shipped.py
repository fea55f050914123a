"""Compiled kernels in the package, which Triton finds before it looks into the user's cache.

``setup.py`` puts them there. Each is named by Triton's own key: the code of Triton, which differs between releases and Python
versions, the source of the kernel, the constants, the architecture and the assembler. Anything with another key is compiled
as if there were none.
"""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

from rirn.kernels import triton

FOLDER = Path(__file__).with_name("compiled")


def put(compiled: Any, folder: Path) -> None:
    """Copy what a launch needs from a compiled kernel: code and metadata."""
    key = base64.b32encode(bytes.fromhex(compiled.hash)).decode().rstrip("=")
    (folder / key).mkdir(parents=True, exist_ok=True)
    for name, path in compiled.metadata_group.items():
        if name.endswith((".cubin", ".json")):
            shutil.copyfile(path, folder / key / name)


def look_up(folder: Path = FOLDER) -> bool:
    """Let Triton look into a folder before the user's cache; return whether it does. A custom cache
    (``TRITON_CACHE_MANAGER``) is left alone."""
    knobs = getattr(triton, "knobs", None)
    if knobs is None or not folder.is_dir() or knobs.cache.manager_class is not None:
        return False
    from triton.runtime.cache import FileCacheManager

    class Shipped(FileCacheManager):
        """Triton's file cache, except for kernels in the folder."""

        def get_group(self, filename: str) -> dict[str, str] | None:
            found = folder / self.key
            if (found / filename).is_file():
                return {file.name: str(file) for file in found.iterdir()}
            return super().get_group(filename)

    # Not by assignment, which would tell all programs started from here, with rirn or not.
    knobs.cache.__dict__["manager_class"] = Shipped
    return True
