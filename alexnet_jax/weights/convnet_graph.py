"""The layers of a cuda-convnet checkpoint as a graph, and whether it is one of our lists.

Layers with weights are grouped by how many of them lie between the image and them: a group is one
layer of a list, its members, sorted by name, the towers. What lies between two of them is compared
kind by kind and number by number, as far as the checkpoint tells (layer.py of the 2012 release).
"""

import dataclasses
import math

import numpy as np

from alexnet_jax.model import layers as kinds
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, LocallyConnected, Output
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import python2

WEIGHTED = {"conv": Convolution, "local": LocallyConnected, "fc": Dense | Output}
Step = tuple[str, tuple]  # a kind of layer without weights, and its numbers


@dataclasses.dataclass(frozen=True)
class Edge:
    """From tower `source` of the group before (-1: the image) through `steps`, with its matrix."""

    source: int
    steps: tuple[Step, ...]
    matrix: np.ndarray


@dataclasses.dataclass(frozen=True)
class Node:
    """A layer with weights in one tower, its edges sorted by tower.

    `low` is the matrix on the low-resolution copy of the image. `numbers` are size of the filters,
    stride and padding of a convolution.
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
    def of(cls, layers, name: str) -> "ConvnetGraph":
        """From a checkpoint's layers, a dict or a list; UserError where they are none.

        `name` is the file's.
        """
        try:
            return cls(_groups(_by_name(layers)))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
            raise UserError(
                f"{name} is a checkpoint whose layers are not those of cuda-convnet: expected each "
                "to have a name, a type and inputs, and those that learn weights and biases."
            ) from None


def mismatch(graph: ConvnetGraph, architecture: Architecture) -> str:
    """In which layer the two differ first, and in what; empty if they are one network."""
    wanted = list(_wanted(architecture))
    if len(graph.groups) != len(wanted):
        return f"it has {len(graph.groups)} layers with weights instead of {len(wanted)}"
    for group, (layer, shape, steps, sees) in zip(graph.groups, wanted, strict=True):
        # Net 146 of 2011 has half of the classes on each GPU, from the units of both.
        towers = {architecture.towers, 1 if isinstance(layer, Output) else architecture.towers}
        if len(group) not in towers:
            return f"{layer.name} has {len(group)} tower(s) instead of {architecture.towers}"
        for tower, node in enumerate(group):
            sources = {"image": [-1], "own": [tower]}.get(sees, list(range(architecture.towers)))
            reason = _difference(node, layer, shape, architecture.towers, steps, sources)
            if reason:
                return f"{node.name}, our {layer.name}, {reason}"
    return ""


def _wanted(architecture: Architecture):
    """Each layer with weights: its input's shape, the steps before it, and which towers it sees."""
    steps, sees = [], "image"
    for layer, shape in architecture.shapes():
        match layer:
            case Convolution() | LocallyConnected() | Dense() | Output():
                if isinstance(layer, Output) and sees != "image":
                    sees = "all"
                yield layer, shape, steps, sees
                steps, sees = [], "own"
            case kinds.Exchange():
                sees = "all"
            case _:
                steps.append(_described(layer))


def _difference(node: Node, layer, shape, towers: int, steps: list[Step], sources: list) -> str:
    """What a node has other than `layer`, with inputs of this shape, has it; empty if nothing."""
    if not isinstance(layer, WEIGHTED[node.kind]):
        return f"is of the type {node.kind}"
    if [edge.source for edge in node.edges] != sources:
        return "sees other towers"
    for edge in node.edges:
        if len(edge.steps) != len(steps) or not all(map(_same, edge.steps, steps)):
            there = ", ".join(kind for kind, _ in edge.steps) or "nothing"
            here = ", ".join(kind for kind, _ in steps) or "nothing"
            return f"comes after {_with_numbers(edge.steps, there, here)} instead of " + (
                _with_numbers(steps, here, there)
            )
    rows, units, biases, numbers = math.prod(shape) // len(sources), None, None, node.numbers
    match layer:
        case Convolution() | LocallyConnected():
            units = layer.filters // towers
            stride = layer.stride if isinstance(layer, Convolution) else 1
            numbers = (layer.size, stride, layer.padding)
            rows = shape[2] * layer.size**2 // len(sources)
            positions = math.prod(layer.output(shape, towers)[:2])
            local = isinstance(layer, LocallyConnected)
            rows, biases = (rows * positions, units * positions) if local else (rows, units)
        case Dense():
            units = biases = layer.units // towers
        case Output():
            rows, units = math.prod(shape), node.edges[0].matrix.shape[1]
            biases = units
    if not _same(("", node.numbers), ("", numbers)):
        return f"has size, stride and padding {node.numbers} instead of {numbers}"
    for edge in node.edges:
        if edge.matrix.shape != (rows, units):
            return f"has weights {list(edge.matrix.shape)} instead of {[rows, units]}"
    if node.biases.size != biases:
        return f"has {node.biases.size:,} biases instead of {biases:,}"
    return _low_difference(node, getattr(layer, "low_resolution", None), units)


def _low_difference(node: Node, low, units: int) -> str:
    if (node.low is None) != (low is None):
        return f"{'has no' if node.low is None else 'has a'} low-resolution input"
    if low is not None and node.low.shape != (low.channels * low.size**2, units):
        return f"has weights {list(node.low.shape)} on its low-resolution input"
    return ""


def _described(layer) -> Step:
    """One of our layers without weights, in cuda-convnet's words."""
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


def _step(layer: dict) -> Step:
    """One of theirs; numbers that the checkpoint does not tell are None."""
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


def _same(theirs: Step, ours: Step) -> bool:
    return theirs[0] == ours[0] and all(
        a is None or math.isclose(a, b, rel_tol=1e-6)
        for a, b in zip(theirs[1], ours[1], strict=False)
    )


def _with_numbers(steps, own: str, other: str) -> str:
    """The kinds of steps, with their numbers where the kinds alone do not differ."""
    if own != other:
        return own
    return ", ".join(f"{kind} {tuple(numbers)}" if numbers else kind for kind, numbers in steps)


def _by_name(layers) -> dict[str, dict]:
    """Layers by name, their inputs as names; cuda-convnet 1 has a list and numbers in it."""
    if isinstance(layers, dict):
        return layers
    names = [layer["name"] for layer in layers]
    return {
        layer["name"]: layer | {"inputs": [names[i] for i in layer.get("inputs", [])]}
        for layer in layers
    }


def _groups(layers: dict[str, dict]) -> list[tuple[Node, ...]]:
    softmax = [layer for layer in layers.values() if layer["type"] == "softmax"]
    depths: dict[str, int] = {}
    for layer in softmax:
        for name in layer["inputs"]:
            _measure(name, layers, depths)
    grouped: dict[int, list[str]] = {}
    for name, depth in sorted(depths.items()):
        if layers[name]["type"] in WEIGHTED:
            grouped.setdefault(depth, []).append(name)
    ordered = [grouped[depth] for depth in sorted(grouped)]
    if not ordered:
        raise ValueError
    towers = {name: index for group in ordered for index, name in enumerate(group)}
    return [tuple(_node(name, layers, towers) for name in group) for group in ordered]


def _measure(name: str, layers: dict, depths: dict[str, int]) -> int:
    """How many layers with weights lie between the image and this one, itself included."""
    if name not in depths:
        layer = layers[name]
        below = [_measure(source, layers, depths) for source in layer.get("inputs", [])]
        depths[name] = max(below, default=0) + (layer["type"] in WEIGHTED)
    return depths[name]


def _node(name: str, layers: dict, towers: dict[str, int]) -> Node:
    layer = layers[name]
    given = layer["weights"]
    matrices = [given] if isinstance(given, python2.Array) else given
    edges, low, main = [], None, 0
    for index, (source, matrix) in enumerate(zip(layer["inputs"], matrices, strict=True)):
        steps = []
        while layers[source]["type"] not in (*WEIGHTED, "data"):
            steps.insert(0, _step(layers[source]))
            (source,) = layers[source]["inputs"]
        from_image = layers[source]["type"] == "data"
        if from_image and [kind for kind, _ in steps] == ["blur", "nailbed"]:
            low = matrix.value
        else:
            tower = -1 if from_image else towers[source]
            edges.append(Edge(tower, tuple(steps), matrix.value))
            main = index
    numbers = tuple(
        abs(value[main]) if isinstance(value, list) else value
        for value in (layer.get(key) for key in ("filterSize", "stride", "padding"))
    )
    edges.sort(key=lambda edge: edge.source)
    return Node(name, layer["type"], tuple(edges), low, layer["biases"].value, numbers)
