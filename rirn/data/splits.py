"""The official splits of public data sets: which sequences belong to which, and how long they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class OfficialSplit:
    """A split as its authors published it."""

    sequences: int
    frames: int
    """Pairs of blurry and sharp frames in all sequences together."""
    lengths: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Pairs per sequence by name; empty where only the totals are on record here."""

    def length(self, name: str) -> int | None:
        """Return the pairs of a sequence; without a list of names, frames / sequences if that is a whole number."""
        if self.lengths or self.frames % self.sequences:
            return self.lengths.get(name)
        return self.frames // self.sequences


def _listed(lengths: Mapping[str, int]) -> OfficialSplit:
    return OfficialSplit(len(lengths), sum(lengths.values()), lengths)


def _parse(text: str) -> dict[str, int]:
    words = text.split()
    return {name: int(length) for name, length in zip(words[::2], words[1::2], strict=True)}


_GOPRO_TRAIN = _parse("""
    GOPR0372_07_00 100 GOPR0372_07_01  75 GOPR0374_11_00 150 GOPR0374_11_01  80 GOPR0374_11_02 100
    GOPR0374_11_03  48 GOPR0378_13_00 110 GOPR0379_11_00 100 GOPR0380_11_00  60 GOPR0384_11_01 100
    GOPR0384_11_02 100 GOPR0384_11_03 100 GOPR0384_11_04 100 GOPR0385_11_00 100 GOPR0386_11_00 100
    GOPR0477_11_00  80 GOPR0857_11_00 100 GOPR0868_11_01 100 GOPR0868_11_02 100 GOPR0871_11_01 100
    GOPR0881_11_00 100 GOPR0884_11_00 100
""")
_GOPRO_TEST = _parse("""
    GOPR0384_11_00 100 GOPR0384_11_05 100 GOPR0385_11_01 100 GOPR0396_11_00 100 GOPR0410_11_00 134
    GOPR0854_11_00 100 GOPR0862_11_00  77 GOPR0868_11_00 100 GOPR0869_11_00 100 GOPR0871_11_00 100
    GOPR0881_11_01 100
""")
_DVD_TEST = _parse("""
    720p_240fps_2 100 IMG_0003 100 IMG_0021 100 IMG_0030 100 IMG_0031 100 IMG_0032 100 IMG_0033 100 IMG_0037 100
    IMG_0039 100 IMG_0049 100
""")
# For BSD only the number of training sequences was checked against a copy of the data; the rest is from its authors' text.
_BSD = {"train": OfficialSplit(60, 6000), "valid": OfficialSplit(20, 2000), "test": OfficialSplit(20, 3000)}

OFFICIAL: dict[str, dict[str, OfficialSplit]] = {
    "GOPRO": {"train": _listed(_GOPRO_TRAIN), "test": _listed(_GOPRO_TEST)},
    "REDS": {
        "train": _listed({f"{i:03d}": 100 for i in range(240)}),
        "val": _listed({f"{i:03d}": 100 for i in range(30)}),
    },
    "DVD": {"train": OfficialSplit(61, 5708), "test": _listed(_DVD_TEST)},
    "BSD 1ms8ms": _BSD,
    "BSD 2ms16ms": _BSD,
    "BSD 3ms24ms": _BSD,
}
"""By layout, then by split."""

# REDS has no test frames with a public truth: papers, including RIRN's, test on its validation sequences.
_OTHER_NAMES = {("REDS", "test"): "val"}
_SYNONYMS = {"validation": "val", "valid": "val"}


def same_split(layout: str, ours: str | None, asked: str) -> bool:
    """Whether somebody who asks for the split ``asked`` means a sequence of the split ``ours``."""
    if ours is None:
        return False
    asked = _OTHER_NAMES.get((layout, asked), asked)
    return _SYNONYMS.get(ours, ours) == _SYNONYMS.get(asked, asked)


def official_split(layout: str, name: str) -> str | None:
    """Return the split that a sequence belongs to by its name alone; None if the name does not tell."""
    if layout == "REDS":  # 000 to 029 occur in both splits
        return None
    found = [split for split, content in OFFICIAL.get(layout, {}).items() if name in content.lengths]
    return found[0] if found else None
