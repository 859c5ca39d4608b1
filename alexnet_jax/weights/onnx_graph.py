"""A network as an ONNX graph, from stored pixels to logits and probabilities.

Weights are in the layout of weights/standard.py: two towers are groups of a convolution, and the
channels of both lie one after the other. The output of a layer has its name in
model/intermediates.py. Only operations of the ONNX standard of 2020 (opset 13) are used, with
explicit padding, so that no reader needs a rule for windows that reach over an edge.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_jax.model import intermediates, layers
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    AveragePool,
    ContrastNorm,
    Convolution,
    Dense,
    MaxPool,
    Output,
    ResponseNorm,
    Shape,
    SpatialNorm,
)
from alexnet_jax.model.ops import conv_output_length
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.standard import StandardWeights
from alexnet_jax.weights.trained import Pixels

if TYPE_CHECKING:
    from onnx import NodeProto

IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
MEAN, DIVISOR = "pixels.mean", "pixels.divisor"
KernelAndBias = tuple[np.ndarray, np.ndarray]


class OnnxGraph:
    """The nodes and stored arrays of a graph that is being built; values are known by name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}

    def node(self, op_type: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add an operation with one output; returns its name, which is made up if not given."""
        name = name or f"{op_type.lower()}_{len(self.nodes)}"
        return self.nodes_of(op_type, *inputs, names=[name], **attributes)[0]

    def nodes_of(
        self, op_type: str, *inputs: str, names: list[str], **attributes: Any
    ) -> list[str]:
        """Add an operation with several outputs; returns their names."""
        from onnx import helper

        self.nodes.append(helper.make_node(op_type, inputs, names, name=names[0], **attributes))
        return names

    def array(self, name: str, value: np.ndarray) -> str:
        """Store an array; returns its name."""
        self.arrays[name] = value
        return name

    def scalar(self, value: float) -> str:
        """Store a float32 number, once."""
        return self.array(f"number_{value:.9g}", np.array(value, np.float32))

    def int_list(self, *values: int) -> str:
        """Store a list of int64 numbers, once."""
        return self.array(f"list_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def scale(self, x: str, factor: float, name: str = "") -> str:
        """`x` times a number; `x` itself for 1 where the result needs no name."""
        if factor == 1 and not name:
            return x
        return self.node("Mul", x, self.scalar(factor), name=name)


def build_graph(architecture: Architecture, weights: StandardWeights, pixels: Pixels) -> OnnxGraph:
    """The graph from `images`, uint8 [batch, size, size, channels], to `logits`, `probabilities`.

    The caller has checked the layout with standard.check_standard. Raises UserError for a layer for
    which ONNX has no operation.
    """
    graph = OnnxGraph()
    x = _inputs(graph, architecture, pixels)
    names = {index: name for name, index in intermediates.activation_places(architecture).items()}
    num_towers, sees_all_towers = architecture.towers, True
    for index, (layer, shape) in enumerate(architecture.shapes()):
        towers = 1 if sees_all_towers else num_towers
        name = names.get(index, "")  # an Exchange has none
        match layer:
            case layers.Exchange():
                sees_all_towers = True
            case Convolution():
                arrays = weights[layer.name]
                x = _convolution(graph, x, layer, shape, arrays, groups=towers, name=name)
                sees_all_towers = num_towers == 1
            case Dense():
                x = _dense(graph, x, weights[layer.name], layer=layer.name, name=name)
                sees_all_towers = num_towers == 1
            case Output():
                x = _dense(graph, x, weights[layer.name], layer=layer.name, name=LOGITS)
            case ResponseNorm():
                x = _response_norm(graph, x, layer, towers=towers, name=name)
            case ContrastNorm():
                x = _contrast_norm(graph, x, layer, channels=towers * shape[-1], name=name)
            case SpatialNorm():
                x = _divide_by_norm(graph, x, x, layer, channels=towers * shape[-1], name=name)
            case MaxPool() | AveragePool():
                x = _pool(graph, x, layer, shape, name=name)
            case layers.Dropout():
                x = x if layer.scale_in_training else graph.scale(x, layer.keep, name)
            case layers.Tanh():
                x = graph.node("Tanh", graph.scale(x, layer.inner))
                x = graph.scale(x, layer.outer, name)
            case layers.ReLU():
                x = graph.node("Relu", x, name=name)
            case layers.Sigmoid():
                x = graph.node("Sigmoid", x, name=name)
            case _:
                raise UserError(f"ONNX has no operation for the layer {layer}.")
    graph.node("Softmax", x, name=PROBABILITIES, axis=1)
    return graph


def _inputs(graph: OnnxGraph, architecture: Architecture, pixels: Pixels) -> str:
    """Center crop, mean and divisor, then channels first; as inference.center_inputs."""
    crop = architecture.input_size
    start = (pixels.size - crop) // 2
    bounds = (graph.int_list(*pair) for pair in ((start,) * 2, (start + crop,) * 2, (1, 2)))
    mean = graph.array(MEAN, np.asarray(pixels.mean, np.float32))
    divisor = graph.array(DIVISOR, np.asarray(pixels.divisor, np.float32))
    if pixels.mean_at_crop:
        x = graph.node("Cast", IMAGES, to=1)  # to float32
        x = graph.node("Slice", graph.node("Sub", x, mean), *bounds)
    else:
        x = graph.node("Cast", graph.node("Slice", IMAGES, *bounds), to=1)
        x = graph.node("Sub", x, mean)
    x = graph.node("Div", x, divisor)
    return graph.node("Transpose", x, name="inputs", perm=[0, 3, 1, 2])


def _stored(graph: OnnxGraph, layer: str, arrays: KernelAndBias) -> list[str]:
    """Store kernel and bias of a layer; returns their names."""
    pairs = zip(("weight", "bias"), arrays, strict=True)
    return [graph.array(f"{layer}.{kind}", np.asarray(array, np.float32)) for kind, array in pairs]


def _convolution(
    graph: OnnxGraph,
    x: str,
    layer: Convolution,
    shape: Shape,
    arrays: KernelAndBias,
    *,
    groups: int,
    name: str,
) -> str:
    ends = []
    for length in shape[:2]:
        count = conv_output_length(
            length, layer.size, stride=layer.stride, padding=layer.padding, floor=layer.floor
        )
        # With the floor rule the last pixels may be in no window: the padding is not shortened.
        needed = (count - 1) * layer.stride + layer.size - layer.padding - length
        ends.append(max(needed, layer.padding))
    return graph.node(
        "Conv",
        x,
        *_stored(graph, layer.name, arrays),
        name=name,
        group=groups,
        kernel_shape=[layer.size] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 2 + ends,
    )


def _dense(graph: OnnxGraph, x: str, arrays: KernelAndBias, *, layer: str, name: str) -> str:
    """On the input flattened with channels first; a flat input passes Flatten unchanged."""
    x = graph.node("Flatten", x, axis=1)
    return graph.node("Gemm", x, *_stored(graph, layer, arrays), name=name, transB=1)


def _response_norm(graph: OnnxGraph, x: str, layer: ResponseNorm, *, towers: int, name: str) -> str:
    """One LRN, or one for each tower; ONNX divides its alpha by the size of the window."""
    if layer.n % 2 == 0:
        raise UserError(
            f"ONNX has no norm over an even number of channels, {layer.n}, with the extra channel "
            "on the low side: keep the network as safetensors."
        )
    attributes: dict[str, Any] = {
        "size": layer.n,
        "alpha": float(layer.alpha * layer.n),
        "beta": float(layer.beta),
        "bias": float(layer.k),
    }
    if towers == 1 or layer.across_towers:
        return graph.node("LRN", x, name=name, **attributes)
    names = [f"{name}.tower{tower + 1}" for tower in range(towers)]
    parts = graph.nodes_of("Split", x, names=[f"{each}.inputs" for each in names], axis=1)
    parts = [graph.node("LRN", part, name=each, **attributes)
             for part, each in zip(parts, names, strict=True)]  # fmt: skip
    return graph.node("Concat", *parts, name=name, axis=1)


def _divide_by_norm(
    graph: OnnxGraph, x: str, squared: str, layer: SpatialNorm, *, channels: int, name: str
) -> str:
    """x / (k + alpha * sum of squares of `squared` over the window) ** beta.

    The sum is a convolution of each channel with alpha: readers of ONNX differ in whether a mean
    counts the zeros beyond the edge.
    """
    window = np.full((channels, 1, layer.n, layer.n), layer.alpha, np.float32)
    sums = graph.node(
        "Conv",
        graph.node("Mul", squared, squared),
        graph.array(f"{name}.window", window),
        group=channels,
        **_centered_window(layer.n),
    )
    denominator = graph.node("Add", sums, graph.scalar(layer.k))
    power = graph.node("Pow", denominator, graph.scalar(layer.beta))
    return graph.node("Div", x, power, name=name)


def _contrast_norm(
    graph: OnnxGraph, x: str, layer: ContrastNorm, *, channels: int, name: str
) -> str:
    mean = graph.node("AveragePool", x, **_centered_window(layer.n))  # of pixels inside the image
    difference = graph.node("Sub", x, mean)
    return _divide_by_norm(graph, x, difference, layer, channels=channels, name=name)


def _centered_window(n: int) -> dict[str, Any]:
    """Attributes of a window of n x n pixels around each pixel."""
    low, high = n // 2, n - 1 - n // 2
    return {"kernel_shape": [n, n], "strides": [1, 1], "pads": [low, low, high, high]}


def _pool(
    graph: OnnxGraph, x: str, layer: MaxPool | AveragePool, shape: Shape, *, name: str
) -> str:
    """Windows that reach over the edge see padding there, which neither kind counts."""
    sides = zip(layer.output(shape, 1)[:2], shape[:2], strict=True)
    ends = [max(0, (count - 1) * layer.stride + layer.size - length) for count, length in sides]
    op_type = "MaxPool" if isinstance(layer, MaxPool) else "AveragePool"
    return graph.node(
        op_type,
        x,
        name=name,
        kernel_shape=[layer.size] * 2,
        strides=[layer.stride] * 2,
        pads=[0, 0, *ends],
    )
