"""The layout of weights in Caffe, PyTorch and ONNX, and conversions from and to this project's.

The standard layout of a convolution is [filters, channels, height, width], the filters of all
towers one after the other and `channels` those of one group; of a dense layer it is
[units, inputs], its inputs flattened with channels first. In this project's layout the tower axis
comes first, kernels are [..., inputs, outputs] and inputs are flattened with channels last.
"""

import math

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    LAYER_KINDS,
    Convolution,
    Dense,
    Exchange,
    LocallyConnected,
    Output,
    Shape,
)
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.trained import HostParameters

StandardWeights = dict[str, tuple[np.ndarray, np.ndarray]]  # {layer: (kernel, bias)}


def check_standard(architecture: Architecture) -> None:
    """Raise UserError where the standard layout can't hold the network, with the layer's name."""
    reason = unsupported_reason(architecture)
    if reason:
        raise UserError(
            f"The network {architecture.name} can't be written in the layout of Caffe, PyTorch "
            f"and ONNX: {reason}. Keep it as safetensors or StableHLO."
        )


def unsupported_reason(architecture: Architecture) -> str:
    """Why the standard layout can't hold the network: "its layer local3 has ..."; empty if it can.

    The layout has one kernel for all positions and dense layers only over all units.
    """
    sees_all_towers = True
    for layer in architecture.layers:
        match layer:
            case _ if type(layer) not in LAYER_KINDS:
                return f"its {type(layer).__name__} is a layer that no other program has"
            case LocallyConnected():
                return f"its layer {layer.name} has weights of its own at every position"
            case Convolution() if layer.low_resolution:
                return f"its layer {layer.name} also sees a low-resolution copy of the image"
            case Dense() if architecture.towers > 1 and not sees_all_towers:
                return f"its layer {layer.name} is dense within each tower"
            case Exchange():
                sees_all_towers = True
            case Convolution() | Dense():
                sees_all_towers = False
    return ""


def to_standard(architecture: Architecture, parameters: HostParameters) -> StandardWeights:
    """{layer: (kernel, bias)} in the standard layout, from parameters of this project.

    Raises UserError where that layout can't hold the network.
    """
    check_standard(architecture)
    weights = {}
    for layer, shape in architecture.shapes():
        if not isinstance(layer, Convolution | Dense | Output):
            continue
        kernel, bias = (np.asarray(parameters[layer.name][kind]) for kind in ("kernel", "bias"))
        match layer:
            case Convolution():
                kernel = kernel.transpose(0, 4, 3, 1, 2)
                kernel = kernel.reshape(-1, *kernel.shape[2:])
            case Dense():
                kernel = np.moveaxis(kernel, 1, -1)  # [towers, units, inputs]
                kernel = _flatten_channels_first(kernel.reshape(layer.units, 1, *shape))
            case Output():
                kernel = kernel.reshape(architecture.towers, *shape, -1)
                kernel = _flatten_channels_first(np.moveaxis(kernel, -1, 0))
        weights[layer.name] = (np.ascontiguousarray(kernel), bias.reshape(-1))
    return weights


def from_standard(
    architecture: Architecture, weights: StandardWeights, *, num_classes: int, file: str
) -> HostParameters:
    """Parameters of this project, float32, from weights in the standard layout.

    `file` names the file in messages. Raises UserError for a missing or an unknown layer and for a
    kernel or bias of another shape.
    """
    check_standard(architecture)
    towers, parameters = architecture.towers, {}
    expected = standard_shapes(architecture, num_classes)
    if set(weights) != set(expected):
        raise UserError(
            f"{file} holds the layers {', '.join(weights) or 'none'}, but {architecture.name} has "
            f"{', '.join(expected)}: name the network that it was made for with --network."
        )
    for layer, shape in architecture.shapes():
        if not isinstance(layer, Convolution | Dense | Output):
            continue
        kernel, bias = (np.asarray(array, np.float32) for array in weights[layer.name])
        for kind, array, size in zip(("weights", "biases"), (kernel, bias), expected[layer.name],
                                     strict=True):  # fmt: skip
            if array.shape != size:
                raise UserError(
                    f"{file} holds {kind} of the shape {list(array.shape)} for {layer.name}, but "
                    f"{architecture.name} with {num_classes:,} classes has {list(size)}: name the "
                    "network that it was made for with --network."
                )
        match layer:
            case Convolution():
                kernel = kernel.reshape(towers, -1, *kernel.shape[1:]).transpose(0, 3, 4, 2, 1)
            case Dense():
                kernel = _flatten_channels_last(kernel, shape, towers=1)
                kernel = kernel.reshape(towers, layer.units // towers, -1).swapaxes(1, 2)
            case Output():
                kernel = _flatten_channels_last(kernel, shape, towers=towers)
                kernel = kernel.reshape(num_classes, towers, -1).transpose(1, 2, 0)
        bias = bias if isinstance(layer, Output) else bias.reshape(towers, -1)
        parameters[layer.name] = {"kernel": np.ascontiguousarray(kernel), "bias": bias}
    return parameters


def standard_shapes(
    architecture: Architecture, num_classes: int
) -> dict[str, tuple[Shape, tuple[int]]]:
    """{layer: (shape of the kernel, shape of the bias)} in the standard layout."""
    shapes: dict[str, tuple[Shape, tuple[int]]] = {}
    for layer, shape in architecture.shapes():
        match layer:
            case Convolution():
                kernel: Shape = (layer.filters, shape[2], layer.size, layer.size)
            case Dense():
                kernel = (layer.units, math.prod(shape))
            case Output():
                kernel = (num_classes, architecture.towers * math.prod(shape))
            case _:
                continue
        shapes[layer.name] = (kernel, (kernel[0],))
    return shapes


def _flatten_channels_first(kernel: np.ndarray) -> np.ndarray:
    """[units, inputs] from [units, towers, height, width, channels] or [units, towers, inputs]."""
    if kernel.ndim == 5:
        kernel = np.moveaxis(kernel, -1, 2)
    return kernel.reshape(len(kernel), -1)


def _flatten_channels_last(kernel: np.ndarray, shape: Shape, *, towers: int) -> np.ndarray:
    """[units, inputs] from inputs flattened with channels first in each tower.

    `shape` is that of the inputs in one tower, (height, width, channels) or (inputs,).
    """
    if len(shape) == 3:
        height, width, channels = shape
        kernel = kernel.reshape(len(kernel), towers, channels, height, width)
        kernel = np.moveaxis(kernel, 2, -1)
    return kernel.reshape(len(kernel), -1)
