"""Reads Caffe's .caffemodel without Caffe: bvlc_alexnet, CaffeNet and what was made of them.

All three generations of files are read: layers of caffe.proto's field `layer`, of `layers` (the
published files), and those within them of 2013. Caffe's networks see blue, green and red; the first
kernel has its channels reversed here, so that ours see red, green and blue.
"""

import pathlib

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import caffe_messages, conventions, standard
from alexnet_jax.weights.trained import Trained
from alexnet_jax.weights.user_hints import Layers, UserHints, matching_networks, rename_by_order

# Names of the kinds in new and old files, V1LayerParameter's numbers, and ONNX's.
NORM, POOL = ("LRN", "lrn", 15), ("Pooling", "pool", 17, "MaxPool")
NAMED = {"AlexNet": "bvlc_alexnet", "CaffeNet": "caffenet"}  # NetParameter.name


def read_caffemodel(path: pathlib.Path, hints: UserHints) -> Trained:
    """The network of a .caffemodel; UserError where there is none or it is another.

    What it makes of images is conventions.caffe_pixels.
    """
    net = caffe_messages.parse_message("NetParameter", path.read_bytes())
    if net is None:
        raise UserError(f"{path} can't be read as a .caffemodel: it is cut short or damaged.")
    layers, kinds = _layers(net, str(path))
    if not layers:
        raise UserError(
            f"{path} describes a network of Caffe without its weights: give the .caffemodel."
        )
    return from_caffe_layers(layers, kinds, hints, str(path), net.name)


def from_caffe_layers(
    layers: Layers, kinds: list, hints: UserHints, name: str, named: str = ""
) -> Trained:
    """A network of Caffe from its layers with weights and the kinds of all, in order.

    `name` is the file's, `named` what the network calls itself. UserError as of `read`.
    """
    variant = hints.choose_variant(name, candidate_networks(layers, kinds, named))
    architecture, classes = variant.architecture(), layers[-1][2].size
    given = rename_by_order(flip_input_channels(layers), variant)
    return Trained(
        name=name,
        variant=variant,
        classes=hints.class_names(classes, name),
        parameters=standard.from_standard(architecture, classes, given, name),
        pixels=conventions.caffe_pixels(architecture, hints),
    )


def candidate_networks(layers: Layers, kinds: list, named: str = "") -> list[str]:
    """Which of Caffe's networks have these shapes, and this order of norm and pooling."""
    order = _norm_first(kinds)
    fit = {
        name: conventions.norm_before_pooling(net)
        for name, net in matching_networks(layers).items()
    }
    found = [name for name, own in fit.items() if own is not None]
    if order is not None:
        return [name for name in found if fit[name] is order]
    return [NAMED[named]] if NAMED.get(named) in found else found


def flip_input_channels(layers: Layers) -> Layers:
    """The same with the channels of the first kernel the other way round."""
    (name, kernel, bias), *rest = layers
    return [(name, np.ascontiguousarray(kernel[:, ::-1]), bias), *rest]


def _norm_first(kinds: list) -> bool | None:
    """Whether the first norm precedes the first pooling; None where either is missing."""
    both = [kind in NORM for kind in kinds if kind in NORM + POOL]
    return both[0] if len(set(both)) == 2 else None


def _layers(net, name: str) -> tuple[Layers, list]:
    """Those with weights, (name, kernel, bias), and the kinds of all in order."""
    described = list(net.layer) + [
        layer.layer if layer.HasField("layer") else layer for layer in net.layers
    ]
    layers = []
    for layer in described:
        if not layer.blobs:
            continue
        if len(layer.blobs) != 2:
            raise UserError(
                f"{name} is no AlexNet of Caffe: its layer {layer.name} has {len(layer.blobs)} "
                "array(s), where a kernel and a bias were expected."
            )
        kernel, bias = map(caffe_messages.blob_array, layer.blobs)
        if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):  # a dense layer in the old form
            kernel = kernel[0, 0]
        layers.append((layer.name, kernel, bias.reshape(-1)))
    return layers, [layer.type for layer in described]
