"""Reads checkpoints of cuda-convnet, the program of 2012: python-2 pickles of its layers.

A checkpoint is {"model_state": {"layers": ...}, "op": flags}; layers are a dict by name in the 2012
release and a list in cuda-convnet 1 (gpumodel.py, layer.py). A layer with weights has one matrix
for each of its inputs, [inputs, units] of an fc and [maps x pixels, filters] of a conv, inputs map
by map, and biases. What is mapped follows the inputs, so names do not matter: fc2048bb of net 145
has the other tower's matrix last, not first.
"""

import math

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, LocallyConnected, Output
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import conventions, python2
from alexnet_jax.weights.convnet_graph import ConvnetGraph, Node, mismatch
from alexnet_jax.weights.trained import Trained
from alexnet_jax.weights.user_hints import UserHints


def read_checkpoint(name: str, data: bytes, hints: UserHints) -> Trained:
    """The network of a checkpoint, `data` the pickle of the file `name`; nothing in it is run.

    The mean image has to be in `hints`, since it lies in batches.meta; its centre is subtracted
    from every crop, as in 2012. UserError where it is missing, and for any other pickle or network.
    """
    checkpoint = python2.load_pickle(data, name)
    try:
        layers = checkpoint["model_state"]["layers"]
    except (KeyError, TypeError, IndexError):
        raise UserError(
            f"{name} is a pickle, but no checkpoint of cuda-convnet: expected its model_state with "
            "the layers."
        ) from None
    graph = ConvnetGraph.of(layers, name)
    known = NETWORKS.values() if hints.variant is None else ()
    variant = hints.choose_variant(name, [net.name for net in known if not mismatch(graph, net)])
    architecture = variant.architecture()
    reason = mismatch(graph, architecture)
    if reason:
        raise UserError(
            f"{name} holds another network than {architecture.name}: {reason}. Name the one that "
            "it was made for with --network, or leave that out."
        )
    classes = sum(node.biases.size for node in graph.groups[-1])
    return Trained(
        name=name,
        variant=variant,
        classes=hints.class_names(classes, name, ilsvrc=False),
        parameters=parameters(graph, architecture),
        pixels=conventions.cuda_convnet_pixels(architecture, hints, name),
    )


def parameters(graph: ConvnetGraph, architecture: Architecture) -> dict[str, dict[str, np.ndarray]]:
    """Those of a graph without mismatch with the architecture, as this project lays them out."""
    found, groups = {}, iter(graph.groups)
    for layer, shape in architecture.shapes():
        match layer:
            case Convolution():
                own = [_convolution(node, layer) for node in next(groups)]
            case LocallyConnected():
                own = [_local(node, layer, shape, architecture.towers) for node in next(groups)]
            case Dense():
                own = [
                    {"kernel": np.concatenate(_by_positions(node, shape), -2).reshape(
                        math.prod(shape), -1), "bias": node.biases.reshape(-1)}
                    for node in next(groups)
                ]  # fmt: skip
            case Output():
                nodes = next(groups)
                kernels = [
                    [part.reshape(math.prod(shape), -1) for part in _by_positions(node, shape)]
                    for node in nodes
                ]
                bias = np.concatenate([node.biases.reshape(-1) for node in nodes])
                found[layer.name] = {"kernel": np.concatenate(kernels, axis=-1), "bias": bias}
                continue
            case _:
                continue
        found[layer.name] = {kind: np.stack([tower[kind] for tower in own]) for kind in own[0]}
    return {
        name: {kind: np.ascontiguousarray(array, np.float32) for kind, array in kinds.items()}
        for name, kinds in found.items()
    }


def _convolution(node: Node, layer: Convolution) -> dict[str, np.ndarray]:
    """One tower of a convolution; the maps of all towers that it sees one after the other."""
    parts = [
        edge.matrix.reshape(-1, layer.size, layer.size, edge.matrix.shape[1]).transpose(1, 2, 0, 3)
        for edge in node.edges
    ]
    found = {"kernel": np.concatenate(parts, 2), "bias": node.biases.reshape(-1)}
    if node.low is not None:
        side, matrix = layer.low_resolution.size, node.low
        found["low_kernel"] = matrix.reshape(-1, side, side, matrix.shape[1]).transpose(1, 2, 0, 3)
    return found


def _local(node: Node, layer: LocallyConnected, shape: tuple, towers: int) -> dict:
    """One tower of a locally connected layer; its biases are filter by filter there."""
    height, width, filters = layer.output(shape, towers)
    kernel = node.edges[0].matrix.reshape(height, width, -1, filters)
    return {
        "kernel": kernel,
        "bias": np.moveaxis(node.biases.reshape(filters, height, width), 0, -1),
    }


def _by_positions(node: Node, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Matrices of the towers seen, [inputs, units] or, after maps, [height, width, maps, units]."""
    matrices = [edge.matrix for edge in node.edges]
    if len(shape) == 1:
        return matrices
    height, width, _ = shape
    images = [matrix.reshape(-1, height, width, matrix.shape[1]) for matrix in matrices]
    return [image.transpose(1, 2, 0, 3) for image in images]
