"""Weights as Caffe, PyTorch and ONNX lay them out, and as this project does.

There a convolution is [filters, maps, height, width], with all towers' filters one after the other
and `maps` those of one group; a dense layer is [units, inputs], its inputs flattened map by map.
Here the tower axis comes first and inputs are flattened position by position.
"""

import math

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Exchange, LocallyConnected, Output
from alexnet_jax.runtime.errors import UserError

StandardWeights = dict[str, tuple[np.ndarray, np.ndarray]]  # {layer: (kernel, bias)}


def check_standard(architecture: Architecture) -> None:
    """UserError where the network can't be written in that layout, with the layer's name."""
    reason = unsupported_reason(architecture)
    if reason:
        raise UserError(
            f"The network {architecture.name} can't be written in the layout of Caffe, PyTorch "
            f"and ONNX: {reason}. Keep it as safetensors or StableHLO."
        )


def unsupported_reason(architecture: Architecture) -> str:
    """What that layout has no place for: "its layer local3 has ..."; empty if there is nothing."""
    joined = True
    for layer in architecture.layers:
        reason = ""
        match layer:
            case LocallyConnected():
                reason = "has weights of its own at every position"
            case Convolution() if layer.low_resolution:
                reason = "also sees a low-resolution copy of the image"
            case Dense() if architecture.towers > 1 and not joined:
                reason = "is dense within each tower"
        if reason:
            return f"its layer {layer.name} {reason}"
        if isinstance(layer, Exchange):
            joined = True
        elif isinstance(layer, Convolution | Dense):
            joined = False
    return ""


def to_standard(architecture: Architecture, parameters: dict) -> StandardWeights:
    """All layers' (kernel, bias) in the other layout; UserError where there is none."""
    check_standard(architecture)
    found = {}
    for layer, shape in architecture.shapes():
        if not isinstance(layer, Convolution | Dense | Output):
            continue
        own = {kind: np.asarray(value) for kind, value in parameters[layer.name].items()}
        match layer:
            case Convolution():
                kernel = own["kernel"].transpose(0, 4, 3, 1, 2)
                kernel = kernel.reshape(-1, *kernel.shape[2:])
            case Dense():
                kernel = np.moveaxis(own["kernel"], 1, -1)  # [towers, units, inputs]
                kernel = _by_maps(kernel.reshape(layer.units, *shape), len(shape))
            case Output():
                kernel = own["kernel"].reshape(architecture.towers, *shape, -1)
                kernel = _by_maps(np.moveaxis(kernel, -1, 0), len(shape), towers=True)
        found[layer.name] = (np.ascontiguousarray(kernel), own["bias"].reshape(-1))
    return found


def from_standard(
    architecture: Architecture, classes: int, given: StandardWeights, name: str
) -> dict:
    """Parameters from the other layout, float32; `name` is the file's, for the sentence.

    UserError for a missing or another layer and for any other shape.
    """
    check_standard(architecture)
    towers, parameters = architecture.towers, {}
    wanted = standard_shapes(architecture, classes)
    if set(given) != set(wanted):
        raise UserError(
            f"{name} holds the layers {', '.join(given) or 'none'}, but {architecture.name} has "
            f"{', '.join(wanted)}: name the network that it was made for with --network."
        )
    for layer, shape in architecture.shapes():
        if not isinstance(layer, Convolution | Dense | Output):
            continue
        kernel, bias = (np.asarray(part, np.float32) for part in given[layer.name])
        for kind, part, size in zip(("weights", "biases"), (kernel, bias), wanted[layer.name],
                                    strict=True):  # fmt: skip
            if part.shape != size:
                raise UserError(
                    f"{name} holds {kind} of the shape {list(part.shape)} for {layer.name}, but "
                    f"{architecture.name} with {classes:,} classes has {list(size)}: name the "
                    "network that it was made for with --network."
                )
        match layer:
            case Convolution():
                kernel = kernel.reshape(towers, -1, *kernel.shape[1:]).transpose(0, 3, 4, 2, 1)
            case Dense():
                kernel = _by_positions(kernel, shape).reshape(towers, layer.units // towers, -1)
                kernel = kernel.swapaxes(1, 2)
            case Output():
                kernel = _by_positions(kernel, shape, towers).reshape(classes, towers, -1)
                kernel = kernel.transpose(1, 2, 0)
        bias = bias if isinstance(layer, Output) else bias.reshape(towers, -1)
        parameters[layer.name] = {"kernel": np.ascontiguousarray(kernel), "bias": bias}
    return parameters


def standard_shapes(architecture: Architecture, classes: int) -> dict[str, tuple]:
    """{layer: (shape of its kernel, shape of its bias)} in the other layout."""
    found = {}
    for layer, shape in architecture.shapes():
        match layer:
            case Convolution():
                kernel = (layer.filters, shape[2], layer.size, layer.size)
            case Dense():
                kernel = (layer.units, math.prod(shape))
            case Output():
                kernel = (classes, architecture.towers * math.prod(shape))
            case _:
                continue
        found[layer.name] = (kernel, kernel[:1])
    return found


def _by_maps(kernel: np.ndarray, dimensions: int, towers: bool = False) -> np.ndarray:
    """[units, inputs] from [units, (towers), height, width, maps] or [units, (towers), inputs]."""
    if dimensions == 3:
        kernel = np.moveaxis(kernel, -1, 2 if towers else 1)
    return kernel.reshape(len(kernel), -1)


def _by_positions(kernel: np.ndarray, shape: tuple[int, ...], towers: int = 1) -> np.ndarray:
    """The inputs of [units, inputs], flattened map by map in each tower, position by position."""
    if len(shape) == 3:
        height, width, maps = shape
        kernel = kernel.reshape(len(kernel), towers, maps, height, width)
        kernel = np.moveaxis(kernel, 2, -1)
    return kernel.reshape(len(kernel), -1)
