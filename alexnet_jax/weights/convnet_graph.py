"""The layers of a cuda-convnet checkpoint as a graph, and its comparison with a network of ours.

Layers with weights are grouped by the number of layers with weights between the image and them: a
group is one layer of a network, its nodes, sorted by name, are the towers. The layers without
weights between two groups are compared kind by kind and number by number, as far as the checkpoint
holds these (layer.py of the 2012 release).
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.model import layers as kinds
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    Convolution,
    Dense,
    Layer,
    LocallyConnected,
    Output,
    Shape,
    Weighted,
)
from alexnet_jax.model.low_resolution import LowResolution
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import python2

LAYER_TYPES = {"conv": Convolution, "local": LocallyConnected, "fc": Dense | Output}
IMAGE = -1  # in place of a tower
ConvnetLayer = dict[str, Any]  # a layer of a checkpoint: its fields by name
Step = tuple[str, tuple]  # a layer without weights: its kind and its numbers


@dataclasses.dataclass(frozen=True)
class Edge:
    """From tower `source` of the group before, or IMAGE, through `steps`, with its matrix."""

    source: int
    steps: tuple[Step, ...]
    matrix: np.ndarray


@dataclasses.dataclass(frozen=True)
class Node:
    """A layer with weights in one tower, its edges sorted by tower.

    `low` is the matrix on the low-resolution copy of the image. `numbers` are filter size, stride
    and padding of a convolution.
    """

    name: str
    kind: str
    edges: tuple[Edge, ...]
    low: np.ndarray | None
    biases: np.ndarray
    numbers: tuple


@dataclasses.dataclass(frozen=True)
class ConvnetGraph:
    """Groups of nodes from the image to the softmax."""

    groups: list[tuple[Node, ...]]

    @classmethod
    def from_layers(cls, layers, file: str) -> "ConvnetGraph":
        """The graph of a checkpoint's layers, a dict or a list.

        `file` names the file in messages. Raises UserError where the layers are not those of
        cuda-convnet.
        """
        try:
            return cls(_group_nodes(_by_name(layers)))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
            raise UserError(
                f"{file} is a checkpoint whose layers are not those of cuda-convnet: expected each "
                "to have a name, a type and inputs, and those that learn weights and biases."
            ) from None


class _Expected(NamedTuple):
    """A layer with weights of a network: its input's shape, the steps before it, and its sources.

    `sources` is "image", "own" for its own tower or "all" for all towers.
    """

    layer: Weighted | Output
    shape: Shape
    steps: list[Step]
    sources: str


def mismatch(graph: ConvnetGraph, architecture: Architecture) -> str:
    """The first layer in which the two differ, and how; empty if they are the same network."""
    expected = list(_expected_layers(architecture))
    if len(graph.groups) != len(expected):
        return f"it has {len(graph.groups)} layers with weights instead of {len(expected)}"
    for group, here in zip(graph.groups, expected, strict=True):
        # Net 146 of 2011 has half of the classes on each GPU, from the units of both.
        towers = {architecture.towers, 1 if isinstance(here.layer, Output) else architecture.towers}
        if len(group) not in towers:
            return f"{here.layer.name} has {len(group)} tower(s) instead of {architecture.towers}"
        for tower, node in enumerate(group):
            reason = _difference(node, here, tower=tower, num_towers=architecture.towers)
            if reason:
                return f"{node.name}, our {here.layer.name}, {reason}"
    return ""


def _expected_layers(architecture: Architecture) -> Iterator[_Expected]:
    """The layers with weights of a network."""
    steps: list[Step] = []
    sources = "image"
    for layer, shape in architecture.shapes():
        match layer:
            case Convolution() | LocallyConnected() | Dense() | Output():
                if isinstance(layer, Output) and sources != "image":
                    sources = "all"
                yield _Expected(layer, shape, steps, sources)
                steps, sources = [], "own"
            case kinds.Exchange():
                sources = "all"
            case _:
                steps.append(_our_step(layer))


def _difference(node: Node, expected: _Expected, *, tower: int, num_towers: int) -> str:
    """In what a node of this tower differs from the layer; empty if in nothing."""
    layer, steps = expected.layer, expected.steps
    sources = {"image": [IMAGE], "own": [tower]}.get(expected.sources, list(range(num_towers)))
    if not isinstance(layer, LAYER_TYPES[node.kind]):
        return f"is of the type {node.kind}"
    if [edge.source for edge in node.edges] != sources:
        return "sees other towers"
    for edge in node.edges:
        if len(edge.steps) != len(steps) or not all(map(_same_step, edge.steps, steps)):
            theirs = ", ".join(kind for kind, _ in edge.steps) or "nothing"
            ours = ", ".join(kind for kind, _ in steps) or "nothing"
            if theirs == ours:
                theirs, ours = _with_numbers(edge.steps), _with_numbers(steps)
            return f"comes after {theirs} instead of {ours}"
    numbers = node.numbers
    match layer:
        case Convolution() | LocallyConnected():
            units = layer.filters // num_towers
            stride = layer.stride if isinstance(layer, Convolution) else 1
            numbers = (layer.size, stride, layer.padding)
            inputs, num_biases = expected.shape[2] * layer.size**2 // len(sources), units
            if isinstance(layer, LocallyConnected):
                positions = math.prod(layer.output(expected.shape, num_towers)[:2])
                inputs, num_biases = inputs * positions, units * positions
        case Dense():
            inputs = math.prod(expected.shape) // len(sources)
            units = num_biases = layer.units // num_towers
        case Output():
            inputs = math.prod(expected.shape)
            units = num_biases = node.edges[0].matrix.shape[1]
    if not _same_step(("", node.numbers), ("", numbers)):
        return f"has size, stride and padding {node.numbers} instead of {numbers}"
    for edge in node.edges:
        if edge.matrix.shape != (inputs, units):
            return f"has weights {list(edge.matrix.shape)} instead of {[inputs, units]}"
    if node.biases.size != num_biases:
        return f"has {node.biases.size:,} biases instead of {num_biases:,}"
    return _low_difference(node.low, getattr(layer, "low_resolution", None), units)


def _low_difference(matrix: np.ndarray | None, low: LowResolution | None, units: int) -> str:
    """As `_difference`, of the weights on the low-resolution copy of the image."""
    if matrix is None or low is None:
        if matrix is None and low is None:
            return ""
        return f"{'has no' if matrix is None else 'has a'} low-resolution input"
    if matrix.shape != (low.channels * low.size**2, units):
        return f"has weights {list(matrix.shape)} on its low-resolution input"
    return ""


def _our_step(layer: Layer) -> Step:
    """The step of one of our layers without weights, in cuda-convnet's names."""
    match layer:
        case kinds.ResponseNorm(across_towers=False):
            return "cmrnorm", (layer.n, layer.alpha, layer.beta, layer.k)
        case kinds.ContrastNorm():
            return "cnorm", (layer.n, layer.alpha, layer.beta, layer.k)
        case kinds.SpatialNorm():
            return "rnorm", (layer.n, layer.alpha, layer.beta, layer.k)
        case kinds.MaxPool():
            return "max-pooling", (layer.size, layer.stride, 0)
        case kinds.AveragePool():
            return "avg-pooling", (layer.size, layer.stride, 0)
        case kinds.Dropout(scale_in_training=False):
            return "hs", (layer.keep,)
        case kinds.ReLU():
            return "relu", ()
        case kinds.Tanh():
            return "tanh", (layer.outer, layer.inner)
        case kinds.Sigmoid():
            return "logistic", ()
    return f"{type(layer).__name__} of another program", ()


def _their_step(layer: ConvnetLayer) -> Step:
    """The step of a checkpoint's layer; numbers that the checkpoint does not hold are None."""
    kind = layer["type"]
    match kind:
        case "cmrnorm" | "rnorm" | "cnorm":
            numbers = (layer.get("size"), layer.get("scale"), layer.get("pow"))
            return kind, (*numbers, layer.get("minDiv", 1.0))
        case "pool":
            numbers = (layer.get("sizeX"), layer.get("stride"), layer.get("start"))
            return f"{layer['pool']}-pooling", numbers
        case "hs":
            return kind, (layer.get("keep"),)
        case "neuron":
            neuron = layer["neuron"]
            parameters = neuron.get("params", {})
            return neuron["type"], tuple(parameters[key] for key in sorted(parameters))
    return kind, ()


def _same_step(theirs: Step, ours: Step) -> bool:
    """Whether kinds and numbers agree; a number that the checkpoint does not hold agrees."""
    return theirs[0] == ours[0] and all(
        a is None or math.isclose(a, b, rel_tol=1e-6)
        for a, b in zip(theirs[1], ours[1], strict=False)
    )


def _with_numbers(steps: Sequence[Step]) -> str:
    return ", ".join(f"{kind} {tuple(numbers)}" if numbers else kind for kind, numbers in steps)


def _by_name(layers) -> dict[str, ConvnetLayer]:
    """Layers by name, their inputs as names; cuda-convnet 1 has a list and indices into it."""
    if isinstance(layers, dict):
        return layers
    names = [layer["name"] for layer in layers]
    return {
        layer["name"]: layer | {"inputs": [names[i] for i in layer.get("inputs", [])]}
        for layer in layers
    }


def _group_nodes(layers: dict[str, ConvnetLayer]) -> list[tuple[Node, ...]]:
    """The layers with weights, grouped by depth; ValueError where there are none."""
    softmax = [layer for layer in layers.values() if layer["type"] == "softmax"]
    depths: dict[str, int] = {}
    for layer in softmax:
        for name in layer["inputs"]:
            _measure_depth(name, layers, depths)
    grouped: dict[int, list[str]] = {}
    for name, depth in sorted(depths.items()):
        if layers[name]["type"] in LAYER_TYPES:
            grouped.setdefault(depth, []).append(name)
    ordered = [grouped[depth] for depth in sorted(grouped)]
    if not ordered:
        raise ValueError
    towers = {name: index for group in ordered for index, name in enumerate(group)}
    return [tuple(_node(name, layers, towers) for name in group) for group in ordered]


def _measure_depth(name: str, layers: dict[str, ConvnetLayer], depths: dict[str, int]) -> int:
    """Number of layers with weights from the image to this one, itself included; into `depths`."""
    if name not in depths:
        layer = layers[name]
        below = [_measure_depth(source, layers, depths) for source in layer.get("inputs", [])]
        depths[name] = max(below, default=0) + (layer["type"] in LAYER_TYPES)
    return depths[name]


def _node(name: str, layers: dict[str, ConvnetLayer], towers: dict[str, int]) -> Node:
    """The node of a layer; `towers` has the tower of each layer with weights."""
    layer = layers[name]
    weights = layer["weights"]
    matrices = [weights] if isinstance(weights, python2.Array) else weights
    edges, low, main = [], None, 0
    for index, (source, matrix) in enumerate(zip(layer["inputs"], matrices, strict=True)):
        steps: list[Step] = []
        while layers[source]["type"] not in (*LAYER_TYPES, "data"):
            steps.insert(0, _their_step(layers[source]))
            (source,) = layers[source]["inputs"]
        from_image = layers[source]["type"] == "data"
        if from_image and [kind for kind, _ in steps] == ["blur", "nailbed"]:
            low = matrix.value
        else:
            tower = IMAGE if from_image else towers[source]
            edges.append(Edge(tower, tuple(steps), matrix.value))
            main = index
    numbers = tuple(
        abs(value[main]) if isinstance(value, list) else value
        for value in (layer.get(key) for key in ("filterSize", "stride", "padding"))
    )
    edges.sort(key=lambda edge: edge.source)
    return Node(name, layer["type"], tuple(edges), low, layer["biases"].value, numbers)
