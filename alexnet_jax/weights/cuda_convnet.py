"""Reads checkpoints of cuda-convnet, the program of 2012: Python-2 pickles of its layers.

A checkpoint is {"model_state": {"layers": ...}, "op": flags}; the layers are a dict by name in the
2012 release and a list in cuda-convnet 1 (gpumodel.py, layer.py). A layer with weights has one
matrix for each of its inputs, [inputs, units] in an fc layer and [channels x pixels, filters] in a
conv layer, the inputs flattened with channels first, and biases. A matrix is assigned to a tower by
the graph, not by the layer's name: fc2048bb of net 145 has the other tower's matrix last.
"""

import math

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, LocallyConnected, Output, Shape
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import conventions, python2
from alexnet_jax.weights.convnet_graph import ConvnetGraph, Node, mismatch
from alexnet_jax.weights.trained import HostParameters, Trained
from alexnet_jax.weights.user_hints import UserHints


def read_checkpoint(file: str, data: bytes, hints: UserHints) -> Trained:
    """The network of a checkpoint, `data` the pickle of the file `file`, without running it.

    `hints` has to name the mean image, which lies in batches.meta; its center is subtracted from
    every crop, as in 2012. Raises UserError where the mean is missing, and for any other pickle or
    network.
    """
    checkpoint = python2.load_pickle(data, file)
    try:
        layers = checkpoint["model_state"]["layers"]
    except (KeyError, TypeError, IndexError):
        raise UserError(
            f"{file} is a pickle, but no checkpoint of cuda-convnet: expected its model_state with "
            "the layers."
        ) from None
    graph = ConvnetGraph.from_layers(layers, file)
    known = NETWORKS.values() if hints.variant is None else ()
    variant = hints.choose_variant(file, [net.name for net in known if not mismatch(graph, net)])
    architecture = variant.architecture()
    reason = mismatch(graph, architecture)
    if reason:
        raise UserError(
            f"{file} holds another network than {architecture.name}: {reason}. Name the one that "
            "it was made for with --network, or leave that out."
        )
    num_classes = sum(node.biases.size for node in graph.groups[-1])
    return Trained(
        name=file,
        variant=variant,
        classes=hints.class_names(num_classes, file, ilsvrc=False),
        parameters=parameters_of(graph, architecture),
        pixels=conventions.cuda_convnet_pixels(architecture, hints, file),
    )


def parameters_of(graph: ConvnetGraph, architecture: Architecture) -> HostParameters:
    """The parameters of a graph in this project's layout, float32.

    The caller has checked with `mismatch` that the graph is that of the architecture.
    """
    parameters: HostParameters = {}
    groups = iter(graph.groups)
    for layer, shape in architecture.shapes():
        match layer:
            case Convolution():
                arrays = _stack([_convolution(node, layer) for node in next(groups)])
            case LocallyConnected():
                output = layer.output(shape, architecture.towers)
                arrays = _stack([_local(node, output) for node in next(groups)])
            case Dense():
                arrays = _stack([_dense(node, shape) for node in next(groups)])
            case Output():
                arrays = _output(next(groups), shape)
            case _:
                continue
        parameters[layer.name] = {
            kind: np.ascontiguousarray(array, np.float32) for kind, array in arrays.items()
        }
    return parameters


def _stack(towers: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of all towers, the tower axis first."""
    return {kind: np.stack([arrays[kind] for arrays in towers]) for kind in towers[0]}


def _convolution(node: Node, layer: Convolution) -> dict[str, np.ndarray]:
    """One tower of a convolution; its input channels are those of all towers that it sees."""
    kernels = [_kernel(edge.matrix, layer.size) for edge in node.edges]
    arrays = {"kernel": np.concatenate(kernels, 2), "bias": node.biases.reshape(-1)}
    if layer.low_resolution is not None and node.low is not None:
        arrays["low_kernel"] = _kernel(node.low, layer.low_resolution.size)
    return arrays


def _kernel(matrix: np.ndarray, size: int) -> np.ndarray:
    """[size, size, channels, filters] from [channels x size x size, filters]."""
    return matrix.reshape(-1, size, size, matrix.shape[1]).transpose(1, 2, 0, 3)


def _local(node: Node, output: Shape) -> dict[str, np.ndarray]:
    """One tower of a locally connected layer of the shape `output`; its biases are filter first."""
    height, width, filters = output
    kernel = node.edges[0].matrix.reshape(height, width, -1, filters)
    return {
        "kernel": kernel,
        "bias": np.moveaxis(node.biases.reshape(filters, height, width), 0, -1),
    }


def _dense(node: Node, shape: Shape) -> dict[str, np.ndarray]:
    """One tower of a dense layer with inputs of this shape, from all towers that it sees."""
    kernel = np.concatenate(_channels_last(node, shape), -2).reshape(math.prod(shape), -1)
    return {"kernel": kernel, "bias": node.biases.reshape(-1)}


def _output(nodes: tuple[Node, ...], shape: Shape) -> dict[str, np.ndarray]:
    """The softmax layer, kernel [towers, inputs, classes]; each node has some of the classes."""
    kernels = [
        [kernel.reshape(math.prod(shape), -1) for kernel in _channels_last(node, shape)]
        for node in nodes
    ]
    bias = np.concatenate([node.biases.reshape(-1) for node in nodes])
    return {"kernel": np.concatenate(kernels, axis=-1), "bias": bias}


def _channels_last(node: Node, shape: Shape) -> list[np.ndarray]:
    """The matrix of each tower that a dense node sees, with the inputs' channels last.

    [inputs, units], or [height, width, channels, units] where the inputs are feature maps.
    """
    matrices = [edge.matrix for edge in node.edges]
    if len(shape) == 1:
        return matrices
    height, width, _ = shape
    images = [matrix.reshape(-1, height, width, matrix.shape[1]) for matrix in matrices]
    return [image.transpose(1, 2, 0, 3) for image in images]
