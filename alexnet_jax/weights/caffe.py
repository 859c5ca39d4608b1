"""Reads Caffe's .caffemodel without Caffe: bvlc_alexnet, CaffeNet and networks made from them.

All three generations of files are read: the field `layer` of NetParameter in caffe.proto, the field
`layers` (the published files), and the messages nested in it of 2013. Caffe's networks expect BGR
images; the channels of the first kernel are reversed here, so that the network expects RGB.
"""

import pathlib

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import caffe_messages, conventions
from alexnet_jax.weights.layer_arrays import LayerArrays, matching_networks, trained_from_layers
from alexnet_jax.weights.trained import Trained
from alexnet_jax.weights.user_hints import UserHints

LayerKind = str | int  # a name, or V1LayerParameter's number
NORM: tuple[LayerKind, ...] = ("LRN", "lrn", 15)  # in new files and ONNX, in old ones, in V1
POOLING: tuple[LayerKind, ...] = ("Pooling", "pool", 17, "MaxPool")  # the last in ONNX
NETWORK_NAMES = {"AlexNet": "bvlc_alexnet", "CaffeNet": "caffenet"}  # NetParameter.name


def read_caffemodel(path: pathlib.Path, hints: UserHints) -> Trained:
    """The network of a .caffemodel, with the preprocessing of conventions.caffe_pixels.

    Raises UserError where the file is damaged, or holds no weights or another network.
    """
    net = caffe_messages.parse_message("NetParameter", path.read_bytes())
    if net is None:
        raise UserError(f"{path} can't be read as a .caffemodel: it is cut short or damaged.")
    layers, kinds = _layers(net, str(path))
    if not layers:
        raise UserError(
            f"{path} describes a network of Caffe without its weights: give the .caffemodel."
        )
    return from_caffe_layers(layers, kinds, hints, file=str(path), network_name=net.name)


def from_caffe_layers(
    layers: list[LayerArrays],
    kinds: list[LayerKind],
    hints: UserHints,
    *,
    file: str,
    network_name: str = "",
) -> Trained:
    """A network of Caffe from its layers with weights and the kinds of all its layers, in order.

    `file` names the file in messages, `network_name` is what the file calls the network. Raises
    UserError where the network is unknown or has other shapes.
    """
    variant = hints.choose_variant(file, candidate_networks(layers, kinds, network_name))
    return trained_from_layers(
        reverse_input_channels(layers),
        variant,
        hints,
        file=file,
        pixels=lambda architecture: conventions.caffe_pixels(architecture, hints),
    )


def candidate_networks(
    layers: list[LayerArrays], kinds: list[LayerKind], network_name: str = ""
) -> list[str]:
    """Names of Caffe's networks with these shapes and this order of norm and pooling.

    Where the file does not list norms and pooling, its name of the network decides, if known.
    """
    orders = {
        name: conventions.norm_before_pooling(architecture)
        for name, architecture in matching_networks(layers).items()
    }
    names = [name for name, order in orders.items() if order is not None]
    order = _norm_first(kinds)
    if order is not None:
        return [name for name in names if orders[name] is order]
    known = NETWORK_NAMES.get(network_name)
    return [known] if known in names else names


def reverse_input_channels(layers: list[LayerArrays]) -> list[LayerArrays]:
    """The same layers, the channels of the first kernel reversed: from BGR to RGB."""
    (name, kernel, bias), *rest = layers
    return [(name, np.ascontiguousarray(kernel[:, ::-1]), bias), *rest]


def _norm_first(kinds: list[LayerKind]) -> bool | None:
    """Whether the first norm precedes the first pooling; None where the file lacks either."""
    norms = [kind in NORM for kind in kinds if kind in NORM + POOLING]
    return norms[0] if len(set(norms)) == 2 else None


def _layers(net, file: str) -> tuple[list[LayerArrays], list[LayerKind]]:
    """The layers with weights of a NetParameter, and the kinds of all its layers, in order."""
    messages = list(net.layer) + [
        layer.layer if layer.HasField("layer") else layer for layer in net.layers
    ]
    layers = []
    for layer in messages:
        if not layer.blobs:
            continue
        if len(layer.blobs) != 2:
            raise UserError(
                f"{file} is no AlexNet of Caffe: its layer {layer.name} has {len(layer.blobs)} "
                "array(s), where a kernel and a bias were expected."
            )
        kernel, bias = map(caffe_messages.blob_array, layer.blobs)
        if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):  # a dense layer in the old form
            kernel = kernel[0, 0]
        layers.append((layer.name, kernel, bias.reshape(-1)))
    return layers, [layer.type for layer in messages]
