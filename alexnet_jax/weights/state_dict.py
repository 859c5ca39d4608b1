"""Reads weights by PyTorch's names: torchvision's AlexNet, or LAYER.weight of any network.

They are a file of torch.save (which needs the package torch) or safetensors of another program.
"""

import json
import pathlib
import pickle

import numpy as np

from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.optional_imports import first_line, require_package
from alexnet_jax.weights import conventions, header, torch_state
from alexnet_jax.weights import safetensors as native
from alexnet_jax.weights.layer_arrays import (
    LayerArrays,
    matching_networks,
    trained_from_layers,
    weighted_layers,
)
from alexnet_jax.weights.trained import Pixels, Trained
from alexnet_jax.weights.user_hints import UserHints

# Of torchvision.models.AlexNet, from the first layer with weights to the last.
TORCHVISION = tuple(torch_state.TORCHVISION.values())
StateDict = dict[str, np.ndarray]


def read_state_dict(path: pathlib.Path, hints: UserHints) -> Trained:
    """The network of a file of torch.save, a state dict or a checkpoint with a `state_dict`.

    Nothing but tensors is unpickled. Without hints the description FILE.json is used, if
    weights/torch_state.py wrote one. Raises UserError where torch is missing, or the file holds
    anything else.
    """
    with require_package("torch", f"Reading {path}"):
        import torch
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds more than tensors, which would run as a program: only a state dict is "
            "read, as of torch.save(model.state_dict(), FILE)."
        ) from None
    except Exception as error:  # of many types: the reader is written in C++
        raise UserError(
            f"{path} can't be read as a file of PyTorch ({first_line(error)}): it is cut short or "
            "damaged; fetch it again."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise UserError(f"{path} holds no state dict: expected {{name: tensor}}.")
    arrays = {str(name): tensor.float().numpy() for name, tensor in state.items()}
    description = header.description_path(path)
    if description.is_file() and hints == UserHints():
        return _from_description(arrays, description, str(path))
    return from_state_dict(arrays, hints, str(path))


def read_foreign_safetensors(path: pathlib.Path, hints: UserHints) -> Trained:
    """The network of a safetensors file of another program; UserError where it holds none."""
    arrays = native.read_tensors(path)
    state = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return from_state_dict(state, hints, str(path))


def from_state_dict(
    state: StateDict, hints: UserHints, file: str, *, pixels: Pixels | None = None
) -> Trained:
    """The network of {LAYER.weight, LAYER.bias}, float32; DataParallel's prefix is removed.

    `file` names the file in messages. `pixels` defaults to conventions.default_pixels. Raises
    UserError where the layers are those of no known network.
    """
    layers = _layers(state, file)
    candidates = list(matching_networks(layers))
    if [name for name, *_ in layers] == list(TORCHVISION):
        candidates = [name for name in candidates if name == conventions.TORCHVISION]
    variant = hints.choose_variant(file, candidates)
    return trained_from_layers(
        layers,
        variant,
        hints,
        file=file,
        pixels=lambda net: pixels or conventions.default_pixels(net, hints, file),
    )


def _layers(state: StateDict, file: str) -> list[LayerArrays]:
    """The layers in the network's order where it is known, otherwise in the file's.

    Raises UserError where a layer lacks its weight or its bias.
    """
    state = {key.replace("module.", ""): array for key, array in state.items()}
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in state))
    keys = [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]
    if not names or set(keys) != set(state):
        odd = next(iter(set(state) - set(keys)), next(iter(set(keys) - set(state)), ""))
        raise UserError(
            f"{file} holds no AlexNet ({odd or 'it is empty'}): expected a weight and a bias for "
            "each layer, named as by torchvision, features.0.weight to classifier.6.bias, or "
            "conv1.weight to fc8.bias."
        )
    # A safetensors file is sorted by name.
    for order in (list(TORCHVISION), *map(weighted_layers, NETWORKS.values())):
        if set(order) == set(names):
            names = order
            break
    return [(name, state[f"{name}.weight"], state[f"{name}.bias"]) for name in names]


def _from_description(state: StateDict, description: pathlib.Path, file: str) -> Trained:
    """With network, classes and pixels of the description that torch_state writes."""
    try:
        values = json.loads(description.read_text())
        fields = {field: json.dumps(values[field]) for field in header.FIELDS}
        mean, divisor = (np.array(values[name], np.float32) for name in ("mean", "divisor"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{description} is not the description that was written beside {file}: remove it, and "
            "name the network with --network."
        ) from error
    contents = header.read_header(fields, str(description))
    hints = UserHints(contents.variant, classes=contents.classes)
    pixels = Pixels(mean=mean, divisor=divisor, **contents.pixels)
    trained = from_state_dict(state, hints, file, pixels=pixels)
    return header.trained_from(
        file, contents, parameters=trained.parameters, mean=mean, divisor=divisor
    )
