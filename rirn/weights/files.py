"""Weights as safetensors files that say which model they belong to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rirn.errors import RirnError
from rirn.files import replacing
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.registry import create_model, model_names
from rirn.ops.precision import checked_precision
from rirn.plugins import find_plugins
from rirn.weights.names import find_weights

FORMAT = "rirn-weights-1"


def save_weights(model: VideoDeblurrer, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a model's weights and how to rebuild the model; ``dtype`` to store them in, by default their own.

    No half-written file is left behind.

    Raises:
        RirnError: the file cannot be written.
    """
    path = Path(path)
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in model.state_dict().items()}
    try:
        with replacing(path) as partial:
            # Not save_file, which makes files that nobody else may read, whatever the umask.
            partial.write_bytes(
                save(tensors, {"format": FORMAT, "model": json.dumps(model.config), **_plugin(model)})
            )
    except OSError as error:
        raise RirnError(f"cannot write the weights {path} ({error.strerror}); give another path") from error


def _plugin(model: VideoDeblurrer) -> dict[str, str]:
    """The module of a base network that is not ours, as a plugin is named."""
    module = type(model.base).__module__
    if module.partition(".")[0] == "rirn":
        return {}
    file = getattr(sys.modules.get(module), "__file__", None)
    return {"plugin": Path(file).name if file and "." not in module else module}


def load(
    name: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    precision: str | None = None,
    trainable: bool = False,
) -> VideoDeblurrer:
    """Load a model, ready to run in evaluation mode, or to train.

    Args:
        name: weights that come with the package, ``"rirn-small"`` or ``"rirn-tiny"``, or a file that ``rirn train`` wrote.
        device: where to run.
        dtype: dtype to compute in, whatever the file stores.
        precision: ``exact`` or ``fast`` products on a CPU, see :func:`rirn.ops.use_precision`; None follows the block in
            which the model is called.
        trainable: return the model in training mode, with parameters that require gradients.

    Raises:
        RirnError: there is no such name, file or precision, or the file is damaged or does not have its model's tensors.
    """
    if precision is not None:
        checked_precision(precision)
    path = find_weights(name)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())  # it may quote the file
        raise RirnError(
            f"the weights file {path} is damaged or no safetensors file ({reason:.300})"
        ) from error
    model = _make(metadata, path)
    expected = model.state_dict()
    for key in sorted(expected.keys() | tensors.keys()):
        if key not in tensors or key not in expected or tensors[key].shape != expected[key].shape:
            shapes = [list(group[key].shape) if key in group else "missing" for group in (tensors, expected)]
            raise RirnError(
                f"the weights file {path} does not fit its model {model.config['name']!r}: {key} is {shapes[0]} in the file and "
                f"{shapes[1]} in the model; it is of another version or was edited"
            )
    model.load_state_dict(tensors)
    model.precision = precision
    return model.to(device, dtype).train(trainable).requires_grad_(trainable)


class _PluginMissing(RirnError):
    """The weights say themselves what is needed."""


def _find_base(name: str, plugin: str | None, path: Path) -> None:
    """Look for the network of a plugin. A module is never imported because a file names it: that could run any code."""
    if plugin is None or name in model_names():
        return
    find_plugins()
    if name not in model_names():
        raise _PluginMissing(
            f"the weights {path} need the network {name!r:.100} of the plugin {plugin!r:.100}; give it as --plugin PATH or in "
            "the environment variable RIRN_PLUGINS; in Python, import it first"
        )


def _make(metadata: dict[str, str], path: Path) -> VideoDeblurrer:
    if metadata.get("format") != FORMAT:
        raise RirnError(
            f"{path} is a safetensors file but not of rirn (its format is {metadata.get('format')!r}, not {FORMAT!r})"
        )
    try:
        config = dict(json.loads(metadata["model"]))
        _find_base(config["name"], metadata.get("plugin"), path)
        return create_model(config.pop("name"), **config)
    except _PluginMissing:
        raise
    # RuntimeError: a header nested too deep, or a model that no memory holds
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise RirnError(
            f"the weights file {path} does not say which model it belongs to ({error})"
        ) from error
