"""Convert weights that authors of public code published into the form of this package.

====================  ==============================  =======================================================
kind                  checkpoint of                   becomes
====================  ==============================  =======================================================
``ifi-rnn``           zzh-tech/ESTRNN, class IFIRNN   ``ifi-rnn``, ``variant="C2H3"``
``strcnn``            zzh-tech/ESTRNN, class STRCNN   ``strcnn``, ``dtb="estrnn-repo"``, ``ends="drop"``
``estrnn``            zzh-tech/ESTRNN, class ESTRNN   ``estrnn`` with its features, blocks and frames
``estrnn-simdeblur``  ljzycmd/SimDeblur, ESTRNN       the same, ``input_shift=0``
``mmp-rnn``           sollynoay/MMP-RNN, class Model  ``mmp-rnn`` with its features, blocks and frames
``stfan``             sczhou/STFAN, class DeblurNet   ``stfan``, ``input_shift=0``
``stfan-simdeblur``   ljzycmd/SimDeblur, STFAN        the same, ``clamp_feedback=False``
====================  ==============================  =======================================================

The first and last layers of those that read images as BGR, all but SimDeblur's, are reversed. docs/checkpoints.md says what
the files do not tell.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rirn.errors import RirnError
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.registry import create_model, near_match
from rirn.models.torch_files import read_torch_file
from rirn.weights.files import save_weights

NESTS = ("state_dict", "deblurnet_state_dict", "model", "params_ema", "params")
"""Where the tensors lie in a training checkpoint: of zzh-tech/ESTRNN and Lightning, STFAN, SimDeblur, BasicSR."""
SIMDEBLUR = "-simdeblur"
"""Ends the kinds of SimDeblur, whose files differ from others in the nest alone, and whose networks in what they read."""
COMPILED = "_orig_mod."
"""What torch.compile puts into keys, anywhere."""
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
    options: Callable[[Tensors, Mapping[str, Any]], dict[str, Any]]
    """Options of the model, some of which only the tensors tell, and some only with those that the user gives."""
    channel_order: str = "bgr"
    """Of the images that it was trained on."""


def _estrnn_options(tensors: Tensors, given: Mapping[str, Any]) -> dict[str, Any]:
    features = tensors["cell.F_B0.weight"].shape[0]
    frames = tensors["fusion.fusion.weight"].shape[0] // (5 * max(1, features))
    return {
        "n_features": features,
        "blocks": _count(tensors, r"cell\.F_R\.RDBs"),
        **_frames_around(frames, given),
    }


def _mmp_rnn_options(tensors: Tensors, given: Mapping[str, Any]) -> dict[str, Any]:
    features = tensors["cell.F_B0.weight"].shape[0]
    frames = tensors["fusion.fusion.weight"].shape[1] // (5 * max(1, features))
    if (
        given.get("attention") is False
    ):  # public code that does not attend has the weights for it all the same
        for key in [key for key in tensors if key.startswith("fusion.ca.")]:
            del tensors[key]
    return {
        "n_features": features,
        "blocks": _count(tensors, r"cell\.F_R\.RDBs"),
        "head_blocks": _count(tensors, r"recons\.D_Net\.RDBs"),
        **_frames_around(frames, given),
    }


def _count(tensors: Tensors, blocks: str) -> int:
    """How many numbers follow the pattern ``blocks`` in keys."""
    return len({match[1] for key in tensors if (match := re.match(rf"{blocks}\.(\d+)\.", key))})


def _frames_around(frames: int, given: Mapping[str, Any]) -> dict[str, int]:
    """``past`` and ``future`` of a network whose head reads ``frames`` frames, some of which the user gives."""
    past, future = given.get("past"), given.get("future")
    if past is None and future is None:
        if frames != 5:
            raise RirnError(
                f"the checkpoint fuses the features of {frames} frames, and does not say how many of them are past; give past"
                " or future"
            )
        past = future = 2  # the default of the public code
    past = frames - 1 - future if past is None else past
    future = frames - 1 - past if future is None else future
    if past + 1 + future != frames:
        raise RirnError(
            f"the checkpoint fuses the features of {frames} frames, not of {past} past, one present and {future} future ones"
        )
    return {"past": past, "future": future}


def _stage(name: str) -> Callable[[re.Match[str]], str]:
    """Layer j of stage s of STFAN's pyramids: two residual blocks follow a convolution and its activation."""
    return lambda match: f"{name}.{4 * (int(match[1]) - 1) + (0, 2, 3)[int(match[2]) - 1]}"


def _trunk(public: str, name: str) -> tuple[Rule, ...]:
    """A chain of dense blocks of ESTRNN's."""
    return (
        (rf"{public}\.RDBs", f"{name}.blocks"),
        (rf"{public}\.conv1x1", f"{name}.condense.0"),
        (rf"{public}\.conv3x3", f"{name}.condense.1"),
    )


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
        lambda tensors, given: {"variant": "C2H3"},
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
        # Repeated ends would start the recurrence two frames earlier, and change every image.
        lambda tensors, given: {"dtb": "estrnn-repo", "ends": "drop"},
    ),
    "estrnn": Kind(
        "estrnn",
        (
            (r"cell\.F_B0", "encoder.0"),
            (r"cell\.F_B1\.rdb", "encoder.1"),
            (r"cell\.F_B1\.down_sampling", "encoder.2"),
            (r"cell\.F_B2\.rdb", "encoder.3"),
            (r"cell\.F_B2\.down_sampling", "encoder.4"),
            *_trunk(r"cell\.F_R", "trunk"),
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
    "mmp-rnn": Kind(
        "mmp-rnn",
        (
            (r"cell\.F_B0", "first.0"),
            (r"cell\.MMAM1\.MMAM_conv0", "guide.0"),
            (r"cell\.MMAM1\.MMAM_conv1", "guide.2"),
            (r"cell\.F_B1\.rdb", "encoder.0"),
            (r"cell\.F_B1\.down_sampling", "encoder.1"),
            (r"cell\.F_B2\.rdb", "encoder.2"),
            (r"cell\.F_B2\.down_sampling", "encoder.3"),
            *_trunk(r"cell\.F_R", "trunk"),
            (r"cell\.F_h", "state_update"),
            (r"cell\.prior\.conv9x9", "motion.first"),
            (r"cell\.prior\.inc", "motion.enter"),
            (r"cell\.prior\.down(\d)\.maxpool_conv\.1", lambda match: f"motion.down.{int(match[1]) - 1}"),
            (r"cell\.prior\.up(\d)\.conv", lambda match: f"motion.up.{int(match[1]) - 1}"),
            (r"cell\.prior\.refine", "motion.refine"),
            (r"cell\.prior\.outc\.conv", "motion.last"),
            *_trunk(r"recons\.D_Net", "head_trunk"),
            (r"recons\.model", "decoder"),
            (r"fusion\.fusion", "fusion.condense"),
            (r"fusion\.ca\.conv_du", "fusion.attention"),
        ),
        (
            *_RDB,
            *(
                (rf"double_conv\.{i}\.", f"{name}.")
                for i, name in ((0, "conv1"), (1, "norm1"), (3, "conv2"), (4, "norm2"))
            ),
        ),
        ("first.0", "motion.first"),
        _mmp_rnn_options,
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
        lambda tensors, given: {"input_shift": 0.0},
    ),
}
KINDS |= {
    f"estrnn{SIMDEBLUR}": dataclasses.replace(
        KINDS["estrnn"],
        options=lambda tensors, given: {**_estrnn_options(tensors, given), "input_shift": 0.0},
        channel_order="rgb",
    ),
    f"stfan{SIMDEBLUR}": dataclasses.replace(
        KINDS["stfan"],
        rules=tuple((rf"cell\.{pattern}", name) for pattern, name in KINDS["stfan"].rules),
        options=lambda tensors, given: {"input_shift": 0.0, "clamp_feedback": False},
        channel_order="rgb",
    ),
}


def convert(
    kind: str, path: str | Path, out: str | Path, *, channel_order: str | None = None, **options
) -> None:
    """Write a weights file that :func:`rirn.load` reads from a checkpoint of public code.

    Args:
        kind: what the checkpoint is, see the table of this module.
        path: the checkpoint, as torch.save wrote it; read with ``weights_only=True``, so that it cannot run
            code.
        out: the safetensors file to write.
        channel_order: channel order of the training images, ``"bgr"`` or ``"rgb"``; None: as the public code reads
            them.
        **options: options of the model, for example ``ends="replicate"``, or ``past=1, future=3`` for ESTRNN.

    Raises:
        RirnError: the file cannot be read, its keys or shapes are not exactly those of the kind, it has numbers that are not
            finite, or it does not say how many of its frames are past.
    """
    save_weights(from_public(kind, path, channel_order=channel_order, **options), out)


def from_public(
    kind: str, path: str | Path, *, channel_order: str | None = None, **options
) -> VideoDeblurrer:
    """Return a model with the weights of a public checkpoint; arguments and errors are those of :func:`convert`."""
    if kind not in KINDS:
        raise RirnError(f"there is no kind of checkpoint {kind!r}; {near_match(kind, KINDS)}")
    path, reader = Path(path), KINDS[kind]
    order = reader.channel_order if channel_order is None else channel_order
    if order not in CHANNEL_ORDERS:
        raise RirnError(f"the channel order must be bgr or rgb; got {order!r}")
    tensors, nest = _read(path)
    if nest == "model" and kind + SIMDEBLUR in KINDS:
        raise RirnError(
            f"the tensors of {path} lie under the key 'model', as SimDeblur writes them, whose {kind} reads other images; "
            f"convert it as {kind + SIMDEBLUR}, or save the tensors alone"
        )
    plain = _unwrap(tensors, reader)
    try:
        found = reader.options(plain, options)
    except KeyError as error:
        raise RirnError(
            f"{path} is no checkpoint of {kind}: it has no tensor {error}; it has {_first_of(list(tensors))}"
        ) from error
    except IndexError as error:
        raise RirnError(f"{path} is no checkpoint of {kind}: a tensor lacks dimensions") from error
    model = create_model(reader.name, **{**found, **options})
    renamed, origin = _rename(plain, reader, kind, path)
    _check(renamed, model.state_dict(), origin, f"{path} does not fit {kind}")
    if order == "bgr":
        output = next(name for name, layer in model.base.named_modules() if layer is model.base.output_layer)
        _turn_round(renamed, [f"base.{layer}" for layer in reader.image_layers], f"base.{output}")
    model.load_state_dict(renamed)
    return model.eval().requires_grad_(False)


def _read(path: Path) -> tuple[Tensors, str | None]:
    """Return all tensors of a checkpoint, and the innermost key that they are under."""
    if not path.is_file():
        raise RirnError(f"there is no checkpoint {path}")
    try:
        content = read_torch_file(path)
    except ValueError as error:
        raise RirnError(
            f"the checkpoint {path} cannot be read safely ({error}); "
            "if it holds more than tensors, save its state_dict alone"
        ) from error
    nest = None
    for key in NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content, nest = content[key], key
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(key, str) for key in content)
        or not all(isinstance(t, Tensor) and t.layout == torch.strided for t in content.values())
    ):
        keys = [str(key) for key in content] if isinstance(content, Mapping) else []
        found = f"the keys {_first_of(keys)}" if keys else f"a {type(content).__name__} without keys"
        raise RirnError(
            f"the checkpoint {path} holds no dictionary of tensors, alone or as {' or '.join(NESTS)}; it has {found}"
        )
    return dict(content), nest


def _unwrap(tensors: Tensors, kind: Kind) -> Tensors:
    """Strip what wrappers put in front of every key: DataParallel, torch.compile, attributes of a Lightning module."""
    plain = {key.replace(COMPILED, ""): tensor for key, tensor in tensors.items()}
    if len(plain) < len(tensors):  # two of a name: one would be lost
        return tensors
    while not any(re.match(rf"{pattern}\.", key) for key in plain for pattern, _ in kind.rules):
        fronts = {key.partition(".")[0] for key in plain}
        # A cell is no wrapper: SimDeblur's STFAN is another network's around the same layers.
        if len(fronts) != 1 or fronts == {"cell"} or not all("." in key for key in plain):
            return tensors
        plain = {key.partition(".")[2]: tensor for key, tensor in plain.items()}
    return plain


def _rename(tensors: Tensors, reader: Kind, kind: str, path: Path) -> tuple[Tensors, dict[str, str]]:
    """The tensors in float32 by the names of this package, and what these are called in the file."""
    renamed: Tensors = {}
    origin: dict[str, str] = {}
    strange, broken = [], []
    for key, tensor in tensors.items():
        name = _name(key, reader)
        if name is None or name in renamed:
            strange.append(key)
            continue
        renamed[name], origin[name] = tensor.float() if tensor.is_floating_point() else tensor, key
        if not renamed[name].isfinite().all():
            broken.append(key)
    if strange:
        raise RirnError(f"{path} has tensors that {kind} has not: {_first_of(strange)}")
    if broken:
        raise RirnError(
            f"{path} holds numbers that are not finite, in {_first_of(broken)}; take a checkpoint from before the training broke"
        )
    return renamed, origin


def _name(key: str, reader: Kind) -> str | None:
    """What a tensor of a public network is called here."""
    for pattern, name in reader.rules:
        match = re.match(rf"{pattern}\.", key)
        if match:
            rest = key[match.end() :]
            for inner, replacement in reader.inner_rules:
                rest = re.sub(inner, replacement, rest)
            return f"base.{name(match) if callable(name) else match.expand(name)}.{rest}"
    return None


def _first_of(keys: list[str], most: int = 5) -> str:
    """The first of some keys and how many more there are; they may hold anything."""
    shown = [
        key if key.isprintable() and len(key) < 100 else f"{key[:40]!r}..." for key in sorted(keys)[:most]
    ]
    return ", ".join(shown) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _turn_round(tensors: Tensors, image_layers: list[str], output_layer: str) -> None:
    """Make layers that read and write BGR read and write RGB, image by image."""
    for layer in image_layers:
        weight = tensors.get(f"{layer}.weight")
        if weight is not None:
            tensors[f"{layer}.weight"] = weight.unflatten(1, (-1, 3)).flip(2).flatten(1, 2)
    for name in (f"{output_layer}.weight", f"{output_layer}.bias"):
        if name in tensors:
            tensors[name] = tensors[name].flip(0)


def _check(tensors: Tensors, expected: Tensors, origin: Mapping[str, str], what: str) -> None:
    """Compare names and shapes with those of the model; ``what`` begins the message."""
    missing = sorted(expected.keys() - tensors.keys())
    strange = [origin[name] for name in tensors.keys() - expected.keys()]
    if missing or strange:
        found = f"lacks what is {_first_of(missing)} here, and has {_first_of(list(origin.values()))}"
        raise RirnError(f"{what}: it {found if missing else f'has also {_first_of(strange)}'}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise RirnError(
                f"{what}: {origin[name]} is {list(tensor.shape)} where the model has {list(expected[name].shape)}"
            )
