"""Weights that the authors of public code published, brought into the form of this package.

============  ============================================  ================================================
kind          checkpoint of                                 becomes
============  ============================================  ================================================
``ifi-rnn``   zzh-tech/ESTRNN, class IFIRNN                 ``ifi-rnn``, ``variant="C2H3"``
``strcnn``    zzh-tech/ESTRNN, class STRCNN                 ``strcnn``, ``dtb="estrnn-repo"``
``estrnn``    zzh-tech/ESTRNN, class ESTRNN                 ``estrnn`` with its number of blocks and features
``stfan``     sczhou/STFAN                                  ``stfan``, ``input_shift=0``
============  ============================================  ================================================

Both repositories read images as BGR, so that the first and last layers are turned round. At the ends of a
video public STRCNN and ESTRNN return nothing, which is ``ends="drop"`` here.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rirn.errors import RirnError
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.registry import create_model, near_match
from rirn.weights.files import save_weights

NESTS = ("state_dict", "deblurnet_state_dict")
"""Where the tensors lie in a training checkpoint."""
PREFIXES = ("module.", "model.")
"""What wrappers put in front of every key."""
CHANNEL_ORDERS = ("bgr", "rgb")

Tensors = dict[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """How to read one kind of checkpoint."""

    name: str
    """The model it becomes."""
    rules: tuple[Rule, ...]
    """Patterns of its keys and what they are here; the first rule that fits the start of a key is applied."""
    inner_rules: tuple[Rule, ...]
    """Patterns of what remains of a key behind that start; all are applied."""
    image_layers: tuple[str, ...]
    """Layers that read images."""
    options: Callable[[Tensors], dict[str, Any]]
    """Options of the model, some of which only the tensors tell."""


def _estrnn_options(tensors: Tensors) -> dict[str, Any]:
    features = tensors["cell.F_B0.weight"].shape[0]
    blocks = {match[1] for key in tensors if (match := re.match(r"cell\.F_R\.RDBs\.(\d+)\.", key))}
    return {"width": features / 16, "blocks": len(blocks)}


def _stage(name: str) -> Callable[[re.Match[str]], str]:
    """Layer j of stage s of STFAN's pyramids: two residual blocks follow a convolution and its activation."""
    return lambda match: f"{name}.{4 * (int(match[1]) - 1) + (0, 2, 3)[int(match[2]) - 1]}"


_RES = (r"main_branch\.0", "conv1"), (r"main_branch\.2", "conv2")
_RES_NORM = (
    (r"main_branch\.0", "conv1"),
    (r"main_branch\.1", "norm1"),
    (r"main_branch\.3", "conv2"),
    (r"main_branch\.4", "norm2"),
)
_RDB = (r"dense_layers\.(\d)\.conv", r"dense.\1"), (r"conv1x1", "condense")
_RES_STEM = (r"^stem\.0", "conv1"), (r"^stem\.2", "conv2"), (r"^0\.", "")

KINDS = {
    "ifi-rnn": Kind(
        "ifi-rnn",
        (
            (r"rnncell(\d)\.F_B", r"cells.\1.encoder"),
            (r"rnncell(\d)\.F_R", r"cells.\1.trunk"),
            (r"rnncell(\d)\.F_h", r"cells.\1.update"),
            (r"rnncell1\.F_L", "decoder"),
        ),
        _RES,
        ("cells.0.encoder.0", "cells.1.encoder.0"),
        lambda tensors: {"variant": "C2H3"},
    ),
    "strcnn": Kind(
        "strcnn",
        (
            (r"encoder\.m1", "encoder"),
            (r"encoder\.m2", "encoder_trunk"),
            (r"dtb\.filter", "dtb.conv"),
            (r"decoder\.m1", "decoder_trunk"),
            (r"decoder\.m2", "decoder"),
            (r"decoder\.f", "state_update"),
        ),
        _RES_NORM,
        ("encoder.0",),
        lambda tensors: {"dtb": "estrnn-repo"},
    ),
    "estrnn": Kind(
        "estrnn",
        (
            (r"cell\.F_B0", "encoder.0"),
            (r"cell\.F_B1\.rdb", "encoder.1"),
            (r"cell\.F_B1\.down_sampling", "encoder.2"),
            (r"cell\.F_B2\.rdb", "encoder.3"),
            (r"cell\.F_B2\.down_sampling", "encoder.4"),
            (r"cell\.F_R\.RDBs", "trunk.blocks"),
            (r"cell\.F_R\.conv1x1", "trunk.condense.0"),
            (r"cell\.F_R\.conv3x3", "trunk.condense.1"),
            (r"cell\.F_h", "state_update"),
            (r"recons\.model", "decoder"),
            (r"fusion\.F_f", "gsa.gate"),
            (r"fusion\.F_p", "gsa.expand"),
            (r"fusion\.condense", "gsa.condense"),
            (r"fusion\.fusion", "gsa.fusion"),
        ),
        _RDB,
        ("encoder.0",),
        _estrnn_options,
    ),
    "stfan": Kind(
        "stfan",
        (
            (r"conv(\d)_(\d)", _stage("encoder")),
            (r"kconv(\d)_(\d)", _stage("kernel_net")),
            (r"upconv2_u", "decoder.0"),
            (r"upconv2_2", "decoder.2"),
            (r"upconv2_1", "decoder.3"),
            (r"upconv1_u", "decoder.4"),
            (r"upconv1_2", "decoder.6"),
            (r"upconv1_1", "decoder.7"),
            (r"img_prd", "decoder.8"),
            *((rf"fac_warp\.{i}", f"align_head.{j}") for i, j in enumerate((0, 2, 3, 4))),
            *((rf"fac_deblur\.{i}", f"deblur_head.{j}") for i, j in enumerate((0, 2, 3, 4))),
            (r"kconv4\.0", "squeeze.0"),
            (r"fea\.0", "state_update.0"),
        ),
        _RES_STEM,
        ("encoder.0", "kernel_net.0"),
        lambda tensors: {"input_shift": 0.0},
    ),
}


def convert(kind: str, path: str | Path, out: str | Path, *, channel_order: str = "bgr", **options) -> None:
    """Write a weights file that :func:`rirn.load` reads from a checkpoint of public code.

    Args:
        kind: what the checkpoint is, see the table of this module.
        path: the checkpoint, as torch.save wrote it; read with ``weights_only=True``, so that it cannot run
            code.
        out: the safetensors file to write.
        channel_order: of the images that the weights were trained on.
        **options: of the model, for example ``ends="drop"``.

    Raises:
        RirnError: the file cannot be read, or its keys or shapes are not exactly those of the kind.
    """
    save_weights(from_public(kind, path, channel_order=channel_order, **options), out)


def from_public(kind: str, path: str | Path, *, channel_order: str = "bgr", **options) -> VideoDeblurrer:
    """A model with the weights of a public checkpoint; arguments and errors as for :func:`convert`."""
    if kind not in KINDS:
        raise RirnError(f"there is no kind of checkpoint {kind!r}; {near_match(kind, KINDS)}")
    if channel_order not in CHANNEL_ORDERS:
        raise RirnError(f"the channel order must be bgr or rgb; got {channel_order!r}")
    tensors, reader = _read(Path(path)), KINDS[kind]
    try:
        found = reader.options(tensors)
    except KeyError as error:
        raise RirnError(f"{path} is no checkpoint of {kind}: it has no tensor {error}") from error
    model = create_model(reader.name, **{**found, **options})
    renamed = _rename(tensors, reader, Path(path))
    if channel_order == "bgr":
        output = next(name for name, layer in model.base.named_modules() if layer is model.base.output_layer)
        _turn_round(renamed, [f"base.{layer}" for layer in reader.image_layers], f"base.{output}")
    _check(renamed, model.state_dict(), Path(path), kind)
    model.load_state_dict(renamed)
    return model.eval().requires_grad_(False)


def _read(path: Path) -> Tensors:
    """All tensors of a checkpoint, whatever it and its keys are wrapped in."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RirnError(f"there is no checkpoint {path}") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RirnError(
            f"the checkpoint {path} cannot be read safely ({reason}); "
            "if it holds more than tensors, save its state_dict alone"
        ) from error
    for nest in NESTS:
        if isinstance(content, Mapping) and nest in content:
            content = content[nest]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(t, Tensor) for t in content.values())
    ):
        raise RirnError(
            f"the checkpoint {path} holds no dictionary of tensors, alone or as {' or '.join(NESTS)}"
        )
    tensors = dict(content)
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _rename(tensors: Tensors, kind: Kind, path: Path) -> Tensors:
    renamed, strange = {}, []
    for key, tensor in tensors.items():
        for pattern, name in kind.rules:
            match = re.match(pattern + r"\.", key)
            if match:
                rest = key[match.end() :]
                for inner, replacement in kind.inner_rules:
                    rest = re.sub(inner, replacement, rest)
                start = name(match) if callable(name) else match.expand(name)
                renamed[f"base.{start}.{rest}"] = tensor.float() if tensor.is_floating_point() else tensor
                break
        else:
            strange.append(key)
    if strange:
        raise RirnError(f"{path} has tensors that {kind.name} has not: {', '.join(sorted(strange))}")
    return renamed


def _turn_round(tensors: Tensors, image_layers: list[str], output_layer: str) -> None:
    """Make layers that read and write BGR read and write RGB, image by image."""
    for layer in image_layers:
        weight = tensors.get(f"{layer}.weight")
        if weight is not None:
            tensors[f"{layer}.weight"] = weight.unflatten(1, (-1, 3)).flip(2).flatten(1, 2)
    for name in (f"{output_layer}.weight", f"{output_layer}.bias"):
        if name in tensors:
            tensors[name] = tensors[name].flip(0)


def _check(tensors: Tensors, expected: Tensors, path: Path, kind: str) -> None:
    missing = sorted(expected.keys() - tensors.keys())
    strange = sorted(tensors.keys() - expected.keys())
    if missing or strange:
        lists = [
            f"{word} {', '.join(keys)}" for word, keys in (("lacks", missing), ("has also", strange)) if keys
        ]
        raise RirnError(f"{path} does not fit {kind}: as named here, it {' and '.join(lists)}")
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            raise RirnError(
                f"{path} does not fit {kind}: {key}, as named here, is {list(tensor.shape)} where the model has "
                f"{list(expected[key].shape)}"
            )
