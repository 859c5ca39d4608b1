"""A network as an ONNX graph, from stored pixels to logits and probabilities.

Weights are in the layout of weights/standard.py: two towers are groups of a convolution, and maps
of both lie one after the other. What a layer gives has its name of model/activations.py. Only
operations of the ONNX standard of 2020 (opset 13) are used, with every padding written out, so that
no reader has to know a rule for windows that hang over an edge.
"""

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
    SpatialNorm,
)
from alexnet_jax.model.ops import conv_output_length
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.standard import StandardWeights
from alexnet_jax.weights.trained import Pixels

IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
MEAN, DIVISOR = "pixels.mean", "pixels.divisor"


class OnnxGraph:
    """The nodes and stored arrays of a graph that is being built; values go by their names."""

    def __init__(self):
        self.nodes, self.arrays = [], {}

    def node(self, kind: str, *given: str, name: str | None = None, **attributes) -> str:
        """Add an operation with one result; the result's name."""
        return self.nodes_of(kind, *given, names=[name or self._free(kind)], **attributes)[0]

    def nodes_of(self, kind: str, *given: str, names: list[str], **attributes) -> list[str]:
        """Add an operation with several results."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, given, names, name=names[0], **attributes))
        return names

    def array(self, name: str, value: np.ndarray) -> str:
        """Store an array; its name."""
        self.arrays[name] = value
        return name

    def number(self, value: float) -> str:
        """Store a number, once."""
        return self.array(f"number_{value:.9g}", np.float32(value))

    def whole_numbers(self, *values: int) -> str:
        """Store a list of whole numbers, once."""
        return self.array(f"list_{'_'.join(map(str, values))}", np.int64(values))

    def times(self, x: str, factor: float, name: str | None = None) -> str:
        """`x` times a number; `x` itself for 1 where the result needs no name."""
        return x if factor == 1 and name is None else self.node("Mul", x, self.number(factor),
                                                                name=name)  # fmt: skip

    def _free(self, kind: str) -> str:
        return f"{kind.lower()}_{len(self.nodes)}"


def build_graph(architecture: Architecture, weights: StandardWeights, pixels: Pixels) -> OnnxGraph:
    """The whole graph: `images` uint8 [rows, size, size, channels] -> `logits`, `probabilities`.

    UserError for a layer that ONNX has no operation for. The caller has checked the layout with
    standard.check_standard.
    """
    graph = OnnxGraph()
    x = _inputs(graph, architecture, pixels)
    names = {index: name for name, index in intermediates.activation_places(architecture).items()}
    towers, joined = architecture.towers, True
    for index, (layer, shape) in enumerate(architecture.shapes()):
        apart, name = 1 if joined else towers, names.get(index)
        match layer:
            case layers.Exchange():
                joined = True
            case Convolution():
                x = _convolution(graph, x, layer, shape, weights[layer.name], apart, name)
                joined = towers == 1
            case Dense():
                x = _dense(graph, x, layer.name, weights[layer.name], name)
                joined = towers == 1
            case Output():
                x = _dense(graph, x, layer.name, weights[layer.name], LOGITS)
            case ResponseNorm():
                x = _across_map_norm(graph, x, layer, apart, name)
            case ContrastNorm():
                x = _contrast_norm(graph, x, layer, apart * shape[-1], name)
            case SpatialNorm():
                x = _divided(graph, x, layer, x, apart * shape[-1], name)
            case MaxPool() | AveragePool():
                x = _pool(graph, x, layer, shape, name)
            case layers.Dropout():
                x = x if layer.scale_in_training else graph.times(x, layer.keep, name)
            case layers.Tanh():
                x = graph.node("Tanh", graph.times(x, layer.inner))
                x = graph.times(x, layer.outer, name)
            case layers.ReLU():
                x = graph.node("Relu", x, name=name)
            case layers.Sigmoid():
                x = graph.node("Sigmoid", x, name=name)
            case _:
                raise UserError(f"ONNX has no operation for the layer {layer}.")
    graph.node("Softmax", x, name=PROBABILITIES, axis=1)
    return graph


def _inputs(graph: OnnxGraph, architecture: Architecture, pixels: Pixels) -> str:
    """Centre crop, mean and divisor, then maps first; as inference.central_inputs."""
    crop = architecture.input_size
    start = (pixels.size - crop) // 2
    bounds = (graph.whole_numbers(*pair) for pair in ((start,) * 2, (start + crop,) * 2, (1, 2)))
    mean = graph.array(MEAN, np.float32(pixels.mean))
    divisor = graph.array(DIVISOR, np.float32(pixels.divisor))
    if pixels.mean_at_crop:
        x = graph.node("Cast", IMAGES, to=1)  # to float32
        x = graph.node("Slice", graph.node("Sub", x, mean), *bounds)
    else:
        x = graph.node("Cast", graph.node("Slice", IMAGES, *bounds), to=1)
        x = graph.node("Sub", x, mean)
    x = graph.node("Div", x, divisor)
    return graph.node("Transpose", x, name="inputs", perm=[0, 3, 1, 2])


def _stored(graph: OnnxGraph, layer: str, weights: tuple[np.ndarray, np.ndarray]) -> list[str]:
    parts = zip(("weight", "bias"), weights, strict=True)
    return [graph.array(f"{layer}.{kind}", np.float32(array)) for kind, array in parts]


def _convolution(graph: OnnxGraph, x, layer: Convolution, shape, weights, groups: int, name) -> str:
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
        *_stored(graph, layer.name, weights),
        name=name,
        group=groups,
        kernel_shape=[layer.size] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 2 + ends,
    )


def _dense(graph: OnnxGraph, x: str, layer: str, weights, name: str) -> str:
    """On the flattened input, map by map; one that is flat already passes unchanged."""
    x = graph.node("Flatten", x, axis=1)
    return graph.node("Gemm", x, *_stored(graph, layer, weights), name=name, transB=1)


def _across_map_norm(graph: OnnxGraph, x: str, layer: ResponseNorm, towers: int, name: str) -> str:
    """One LRN, or one for each tower; ONNX divides its alpha by the size of the window."""
    if layer.n % 2 == 0:
        raise UserError(
            f"ONNX has no norm over an even number of maps, {layer.n}, with the extra map on the "
            "low side: keep the network as safetensors."
        )
    numbers = {
        "size": layer.n,
        "alpha": float(layer.alpha * layer.n),
        "beta": float(layer.beta),
        "bias": float(layer.k),
    }
    if towers == 1 or layer.across_towers:
        return graph.node("LRN", x, name=name, **numbers)
    names = [f"{name}.tower{tower + 1}" for tower in range(towers)]
    parts = graph.nodes_of("Split", x, names=[f"{each}.inputs" for each in names], axis=1)
    parts = [graph.node("LRN", part, name=each, **numbers)
             for part, each in zip(parts, names, strict=True)]  # fmt: skip
    return graph.node("Concat", *parts, name=name, axis=1)


def _divided(
    graph: OnnxGraph, x: str, layer: SpatialNorm, summed: str, maps: int, name: str
) -> str:
    """x / (k + alpha * sum of squares of `summed` over the window) ** beta.

    The sum is a convolution of each map with alpha: not every reader of ONNX counts the zeros
    beyond the edge in a mean.
    """
    window = np.full((maps, 1, layer.n, layer.n), layer.alpha, np.float32)
    sums = graph.node(
        "Conv",
        graph.node("Mul", summed, summed),
        graph.array(f"{name}.window", window),
        group=maps,
        **_around(layer.n),
    )
    denominator = graph.node("Add", sums, graph.number(layer.k))
    power = graph.node("Pow", denominator, graph.number(layer.beta))
    return graph.node("Div", x, power, name=name)


def _contrast_norm(graph: OnnxGraph, x: str, layer: ContrastNorm, maps: int, name: str) -> str:
    mean = graph.node("AveragePool", x, **_around(layer.n))  # of the pixels inside the image
    return _divided(graph, x, layer, graph.node("Sub", x, mean), maps, name)


def _around(n: int) -> dict[str, list[int]]:
    """Attributes of a window of n x n pixels around each one."""
    low, high = n // 2, n - 1 - n // 2
    return {"kernel_shape": [n, n], "strides": [1, 1], "pads": [low, low, high, high]}


def _pool(graph: OnnxGraph, x: str, layer: MaxPool | AveragePool, shape, name: str) -> str:
    """Windows that hang over the edge see padding there, which neither kind counts."""
    sides = zip(layer.output(shape, 1)[:2], shape[:2], strict=True)
    over = [max(0, (count - 1) * layer.stride + layer.size - length) for count, length in sides]
    kind = "MaxPool" if isinstance(layer, MaxPool) else "AveragePool"
    strides = [layer.stride] * 2
    return graph.node(
        kind, x, name=name, kernel_shape=[layer.size] * 2, strides=strides, pads=[0, 0, *over]
    )
