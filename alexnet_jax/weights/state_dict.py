"""Reads weights by PyTorch's names: torchvision's AlexNet, or LAYER.weight of any network.

They come as a file of torch.save (which needs the package torch) or as safetensors.
"""

import json
import pathlib
import pickle

import numpy as np

from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import conventions, header, standard, torch_state
from alexnet_jax.weights import safetensors as native
from alexnet_jax.weights.optional_imports import require_package
from alexnet_jax.weights.trained import Pixels, Trained
from alexnet_jax.weights.user_hints import (
    Layers,
    UserHints,
    matching_networks,
    rename_by_order,
    weighted_layers,
)

# Of torchvision.models.AlexNet, from the first layer with weights to the last.
TORCHVISION = tuple(torch_state.TORCHVISION.values())
State = dict[str, np.ndarray]


def read_state_dict(path: pathlib.Path, hints: UserHints) -> Trained:
    """From a file of torch.save; UserError where torch is missing, or it holds anything else.

    A training checkpoint with a `state_dict` counts too. Nothing but tensors is unpickled. If
    nothing is in `hints`, the FILE.json that weights/torch_state.py writes says it, where there is
    one.
    """
    with require_package("torch", f"Reading {path}"):
        import torch
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds more than tensors, which would run as a program: only a state dict is "
            "read, as of torch.save(model.state_dict(), FILE)."
        ) from None
    except Exception as error:  # of many kinds: its reader is written in C++
        raise UserError(
            f"{path} can't be read as a file of PyTorch ({_first_line(error)}): it is cut short or "
            "damaged; fetch it again."
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise UserError(f"{path} holds no state dict: expected {{name: tensor}}.")
    state = {str(name): tensor.float().numpy() for name, tensor in found.items()}
    beside = path.with_name(path.name + ".json")
    if beside.is_file() and hints == UserHints():
        return _as_described(state, beside, str(path))
    return from_state_dict(state, hints, str(path))


def read_foreign_safetensors(path: pathlib.Path, hints: UserHints) -> Trained:
    """From a safetensors file of another program; UserError where it holds anything else."""
    state = {name: np.float32(array) for name, array in native.read_tensors(path).items()}
    return from_state_dict(state, hints, str(path))


def from_state_dict(
    state: State, hints: UserHints, name: str, pixels: Pixels | None = None
) -> Trained:
    """The network of {LAYER.weight, LAYER.bias}; UserError where it is none known here.

    What DataParallel puts before the names is taken away. Without `pixels` they are those of
    conventions.default_pixels.
    """
    state = {key.replace("module.", ""): value for key, value in state.items()}
    own = list(dict.fromkeys(key.rpartition(".")[0] for key in state))
    if set(own) == set(TORCHVISION):
        own = list(TORCHVISION)
    complete = [f"{layer}.{kind}" for layer in own for kind in ("weight", "bias")]
    if not own or set(complete) != set(state):
        odd = next(iter(set(state) - set(complete)), next(iter(set(complete) - set(state)), ""))
        raise UserError(
            f"{name} holds no AlexNet ({odd or 'it is empty'}): expected a weight and a bias for "
            "each layer, named as by torchvision, features.0.weight to classifier.6.bias, or "
            "conv1.weight to fc8.bias."
        )
    layers: Layers = [(layer, state[f"{layer}.weight"], state[f"{layer}.bias"]) for layer in own]
    by_name = {
        names: net for names, net in NETWORKS.items() if set(weighted_layers(net)) == set(own)
    }
    if own != list(TORCHVISION):  # safetensors sorts by name
        order = weighted_layers(next(iter(by_name.values()))) if by_name else own
        layers.sort(key=lambda layer: order.index(layer[0]))
    guesses = list(matching_networks(layers))
    if own == list(TORCHVISION):
        guesses = [found for found in guesses if found == conventions.TORCHVISION]
    variant = hints.choose_variant(name, guesses)
    architecture, classes = variant.architecture(), len(layers[-1][2])
    given = rename_by_order(layers, variant)
    return Trained(
        name=name,
        variant=variant,
        classes=hints.class_names(classes, name),
        parameters=standard.from_standard(architecture, classes, given, name),
        pixels=pixels or conventions.default_pixels(architecture, hints, name),
    )


def _as_described(state: State, beside: pathlib.Path, name: str) -> Trained:
    """With network, classes and pixels of the description that torch_state writes."""
    try:
        about = json.loads(beside.read_text())
        fields = {field: json.dumps(about[field]) for field in header.FIELDS}
        mean, divisor = np.float32(about["mean"]), np.float32(about["divisor"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{beside} is not what was written beside {name}: take it away, and name the network "
            "with --network."
        ) from error
    variant, classes, numbers = header.read_header(fields, str(beside))
    found = from_state_dict(state, UserHints(variant, classes=classes), name, Pixels(
        mean=mean, divisor=divisor, **numbers))  # fmt: skip
    return header.trained_from(name, variant, classes, found.parameters, numbers, mean, divisor)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
