"""ONNX: a network with its weights and its preprocessing, and such files read back.

The graph takes stored pixels, `images` uint8 [rows, size, size, channels], and gives `logits` and
`probabilities` of the central view, [rows, classes].
"""

import pathlib

import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.model import layers
from alexnet_jax.model.network import Architecture
from alexnet_jax.model.weighted import Convolution, Dense, Output, convolved_length
from alexnet_jax.weights import header, standard, writing
from alexnet_jax.weights.optional import library
from alexnet_jax.weights.trained import Trained

OPERATORS = 17  # version of ONNX's operator set: every runtime since 2022 has it
FORMAT_VERSION = 8  # of the file, of the same age


class _Graph:
    """Nodes and constants as they are added; `head` is the name of what the next node reads."""

    def __init__(self, onnx, head: str):
        self._onnx = onnx
        self.head = head
        self.nodes: list = []
        self.constants: list = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(value, name))
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number{len(self.constants)}", np.float32(value))

    def add(self, kind: str, *others: str, head: str | None = None, **attributes) -> str:
        """A node that reads `head` and others; what it gives becomes the head."""
        inputs = [head or self.head, *others]
        self.head = f"{kind.lower()}{len(self.nodes)}"
        make = self._onnx.helper.make_node
        self.nodes.append(make(kind, inputs, [self.head], name=self.head, **attributes))
        return self.head

    def split(self, parts: int, width: int) -> list[str]:
        """The maps of each tower."""
        names = [f"{self.head}.tower{tower}" for tower in range(parts)]
        sizes = self.constant(f"sizes{len(self.constants)}", np.int64([width] * parts))
        make = self._onnx.helper.make_node
        self.nodes.append(make("Split", [self.head, sizes], names, axis=1))
        return names


def write(path: pathlib.Path, trained: Trained) -> None:
    """Write the network; UserError where ONNX has no such layer, or the library is missing."""
    onnx = library("onnx", f"Writing {path}")
    onnx_helper, kinds = onnx.helper, onnx.TensorProto
    architecture, pixels = trained.architecture, trained.pixels
    weights = standard.to_standard(architecture, trained.parameters)
    graph = _Graph(onnx, "images")
    _preprocessing(graph, trained)
    joined = True  # whether a tower sees the maps of all towers
    for layer, shape in architecture.shapes():
        for kind, array in zip(("weight", "bias"), weights.get(getattr(layer, "name", ""), ()),
                               strict=False):  # fmt: skip
            graph.constant(f"{layer.name}.{kind}", array)
        joined = _layer(graph, architecture, layer, shape, joined)
    graph.nodes[-1].output[0] = "logits"
    graph.add("Softmax", head="logits", axis=1)
    graph.nodes[-1].output[0] = "probabilities"
    images = ("rows", pixels.size, pixels.size, architecture.channels)
    scores = ("rows", len(trained.classes))
    value = onnx_helper.make_tensor_value_info
    whole = onnx_helper.make_graph(
        graph.nodes,
        architecture.name,
        [value("images", kinds.UINT8, images)],
        [value(name, kinds.FLOAT, scores) for name in ("logits", "probabilities")],
        graph.constants,
    )
    model = onnx_helper.make_model(
        whole,
        opset_imports=[onnx_helper.make_opsetid("", OPERATORS)],
        ir_version=FORMAT_VERSION,
        producer_name="alexnet_jax",
    )
    onnx_helper.set_model_props(model, header.header_of(trained))
    onnx.checker.check_model(model)
    with writing.whole(path) as partial:
        partial.write_bytes(model.SerializeToString())


def read(path: pathlib.Path) -> Trained:
    """What `write` wrote, to the bit; UserError for anything else."""
    onnx = library("onnx", f"Reading {path}")
    try:
        model = onnx.load_from_string(path.read_bytes())
        arrays = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    except Exception as error:  # of protobuf and NumPy, of many kinds
        raise UserError(f"{path} can't be read as ONNX: it is damaged or cut off.") from error
    about = {prop.key: prop.value for prop in model.metadata_props}
    variant, classes, numbers = header.read_header(about, str(path))
    architecture = variant.architecture()
    try:
        given = {
            layer: (arrays[f"{layer}.weight"], arrays[f"{layer}.bias"])
            for layer in standard.standard_shapes(architecture, len(classes))
        }
        mean, divisor = arrays["pixels.mean"], arrays["pixels.divisor"]
    except KeyError as error:
        raise UserError(f"{path} holds no {error}: convert the weights anew.") from error
    parameters = standard.from_standard(architecture, len(classes), given, str(path))
    return header.trained_from(str(path), variant, classes, parameters, numbers, mean, divisor)


def _preprocessing(graph: _Graph, trained: Trained) -> None:
    """From stored pixels to [rows, channels, crop, crop], as augment.input_at does it."""
    pixels, crop = trained.pixels, trained.architecture.input_size
    start = (pixels.size - crop) // 2
    mean = graph.constant("pixels.mean", np.asarray(pixels.mean, np.float32))
    divisor = graph.constant("pixels.divisor", np.asarray(pixels.divisor, np.float32))

    def cut():
        starts = graph.constant("crop.starts", np.int64([start, start]))
        ends = graph.constant("crop.ends", np.int64([start + crop] * 2))
        graph.add("Slice", starts, ends, graph.constant("crop.axes", np.int64([1, 2])))

    if not pixels.mean_at_crop:
        cut()
    graph.add("Cast", to=1)  # float32
    graph.add("Sub", mean)
    if pixels.mean_at_crop:
        cut()
    graph.add("Div", divisor)
    graph.add("Transpose", perm=[0, 3, 1, 2])


def _layer(graph: _Graph, architecture: Architecture, layer, shape, joined: bool) -> bool:
    """Add a layer; returns whether a tower sees the maps of all towers after it."""
    towers = architecture.towers
    match layer:
        case layers.Exchange():
            return True
        case Convolution():
            _convolution(graph, layer, shape, 1 if joined else towers)
            return towers == 1
        case Dense() | Output():
            graph.add("Flatten")
            graph.add("Gemm", f"{layer.name}.weight", f"{layer.name}.bias", transB=1)
            return towers == 1
        case layers.AcrossMapNorm():
            apart = 1 if joined or layer.across_towers else towers
            _across_maps(graph, layer, apart, shape[2])
        case layers.SpatialNorm():
            _within_map(graph, layer, shape)
        case layers.MaxPool():
            graph.add("MaxPool", kernel_shape=[layer.size] * 2, strides=[layer.stride] * 2,
                      ceil_mode=1)  # fmt: skip
        case layers.AveragePool():
            _average_pool(graph, layer, shape)
        case layers.ReLU():
            graph.add("Relu")
        case layers.Sigmoid():
            graph.add("Sigmoid")
        case layers.Tanh():
            graph.add("Mul", graph.number(layer.inner))
            graph.add("Tanh")
            graph.add("Mul", graph.number(layer.outer))
        case layers.Dropout() if not layer.scale_in_training:
            graph.add("Mul", graph.number(layer.keep))
    return joined


def _convolution(graph: _Graph, layer: Convolution, shape, groups: int) -> None:
    ends = []
    for length in shape[:2]:
        if layer.floor:
            ends.append(layer.padding)
        else:  # as many zeros at the end as the last window needs
            count = convolved_length(length, layer.size, layer.stride, layer.padding, False)
            ends.append((count - 1) * layer.stride + layer.size - layer.padding - length)
    graph.add(
        "Conv", f"{layer.name}.weight", f"{layer.name}.bias",
        kernel_shape=[layer.size] * 2, strides=[layer.stride] * 2,
        pads=[layer.padding] * 2 + ends, group=groups,
    )  # fmt: skip


def _across_maps(graph: _Graph, layer: layers.AcrossMapNorm, towers: int, maps: int) -> None:
    """ONNX divides alpha by the size of the window; for an even one it reaches the other way."""
    if layer.n % 2 == 0:
        raise UserError(f"ONNX has no norm over an even number of maps ({layer.n}).")

    def norm(head: str) -> str:
        return graph.add("LRN", head=head, size=layer.n, alpha=layer.alpha * layer.n,
                         beta=layer.beta, bias=float(layer.k))  # fmt: skip

    if towers == 1:
        norm(graph.head)
        return
    first, *rest = [norm(part) for part in graph.split(towers, maps)]
    graph.add("Concat", *rest, head=first, axis=1)


def _within_map(graph: _Graph, layer: layers.SpatialNorm, shape) -> None:
    """x / (k + alpha * sum of squares over the window) ** beta."""
    x = graph.head
    if isinstance(layer, layers.ContrastNorm):
        _window_sums(graph, layer.n)
        counts = _counts(shape, layer.n)
        means = graph.add("Div", graph.constant(f"counts{len(graph.constants)}", counts))
        graph.add("Sub", means, head=x)
    graph.add("Mul", graph.head)
    _window_sums(graph, layer.n)
    graph.add("Mul", graph.number(layer.alpha))
    graph.add("Add", graph.number(layer.k))
    power = graph.add("Pow", graph.number(-layer.beta))
    graph.add("Mul", power, head=x)


def _window_sums(graph: _Graph, n: int) -> None:
    """Sum over the n x n pixels around each, with zero beyond the edge."""
    low, high = n // 2, n - 1 - n // 2
    graph.add("AveragePool", kernel_shape=[n, n], strides=[1, 1], pads=[low, low, high, high],
              count_include_pad=1)  # fmt: skip
    graph.add("Mul", graph.number(n * n))


def _counts(shape, n: int) -> np.ndarray:
    """How many pixels of the n x n around each lie inside, float32 [1, 1, height, width]."""
    sides = []
    for length in shape[:2]:
        places = np.arange(length)
        first = np.maximum(places - n // 2, 0)
        last = np.minimum(places + n - 1 - n // 2, length - 1)
        sides.append(last - first + 1)
    return np.float32(np.outer(*sides))[None, None]


def _average_pool(graph: _Graph, layer: layers.AveragePool, shape) -> None:
    """Windows that hang over the edge are means of what lies inside: zeros, and a factor."""
    sides, room = [], []
    for length in shape[:2]:
        starts = np.arange(layer.output(shape, 1)[0 if not sides else 1]) * layer.stride
        sides.append(np.minimum(starts + layer.size, length) - starts)
        room.append(max(0, int(starts[-1]) + layer.size - length))
    graph.add("AveragePool", kernel_shape=[layer.size] * 2, strides=[layer.stride] * 2,
              pads=[0, 0, *room], count_include_pad=1)  # fmt: skip
    factors = np.float32(layer.size**2 / np.outer(*sides))[None, None]
    graph.add("Mul", graph.constant(f"factors{len(graph.constants)}", factors))
