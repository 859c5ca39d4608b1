"""Reads Caffe's .caffemodel without Caffe: bvlc_alexnet, CaffeNet and what was made of them.

All three generations of files are read: layers of caffe.proto's field `layer`, of `layers` (the
published files of 2013 and 2014), and those within them of 2013. Caffe's networks see blue, green
and red; the first kernel is turned round here, so that ours see red, green and blue.
"""

import pathlib

import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.model.layers import AcrossMapNorm, MaxPool
from alexnet_jax.model.network import Architecture
from alexnet_jax.weights import caffe_messages, standard
from alexnet_jax.weights.mean_image import read_mean
from alexnet_jax.weights.trained import Pixels, Trained
from alexnet_jax.weights.wanted import IMAGENET_SIZE, Wanted, fitting, in_order, mean_pixels

# Red, green, blue: the means of imagenet_mean.binaryproto (Caffe's examples; its prototxts offer
# the same rounded, 104, 117 and 123).
CHANNEL_MEANS = np.float32([122.67891434, 116.66876762, 104.00698793])
NORM, POOL = ("LRN", "lrn", 15), ("Pooling", "pool", 17)  # new, oldest, V1's numbers
NAMED = {"AlexNet": "bvlc_alexnet", "CaffeNet": "caffenet"}  # NetParameter.name
Layers = list[tuple[str, np.ndarray, np.ndarray]]


def read(path: pathlib.Path, wanted: Wanted) -> Trained:
    """The network of a .caffemodel; UserError where there is none or it is another.

    Without a mean in `wanted` it is CHANNEL_MEANS. Images are warped to 256 pixels and the mean
    image counts at the crop's place, as in Caffe's ImageNet example.
    """
    net = caffe_messages.parse("NetParameter", path.read_bytes())
    if net is None:
        raise UserError(f"{path} can't be read as a .caffemodel: it is cut short or damaged.")
    layers, kinds = _layers(net, str(path))
    if not layers:
        raise UserError(
            f"{path} describes a network of Caffe without its weights: give the .caffemodel."
        )
    variant = wanted.network(str(path), _guesses(net.name, layers, kinds))
    architecture = variant.architecture()
    if architecture.channels == 3 and layers[0][1].ndim == 4 and layers[0][1].shape[1] == 3:
        name, kernel, bias = layers[0]
        layers[0] = (name, np.ascontiguousarray(kernel[:, ::-1]), bias)
    classes = len(layers[-1][2])
    return Trained(
        name=str(path),
        variant=variant,
        classes=wanted.names(classes, str(path)),
        parameters=standard.from_standard(
            architecture, classes, in_order(layers, variant), str(path)
        ),
        pixels=caffe_pixels(architecture, wanted),
    )


def caffe_pixels(architecture: Architecture, wanted: Wanted) -> Pixels:
    """What Caffe's ImageNet example makes of an image."""
    if wanted.mean is not None:
        mean = read_mean(wanted.mean, bgr=True)
        return mean_pixels(architecture, mean, str(wanted.mean), at_crop=True, warp=True)
    if architecture.channels != 3 or architecture.input_size > IMAGENET_SIZE:
        raise UserError(
            f"Caffe's file does not say which mean {architecture.name} subtracts: give it with "
            "--mean=FILE."
        )
    return Pixels(IMAGENET_SIZE, CHANNEL_MEANS, np.float32(1), warp=True)


def norm_before_pool(kinds: list) -> bool | None:
    """Whether the first norm comes before the first pooling; None where one is missing.

    It is all that tells bvlc_alexnet from CaffeNet.
    """
    for kind in kinds:
        if kind in NORM + POOL:
            rest = kinds[kinds.index(kind) :]
            both = any(k in NORM for k in rest) and any(k in POOL for k in rest)
            return kind in NORM if both else None
    return None


def has_norm_first(architecture: Architecture) -> bool | None:
    """The same of a network here; None where it is not one of Caffe's."""
    norm = [isinstance(layer, AcrossMapNorm) for layer in architecture.layers
            if isinstance(layer, AcrossMapNorm | MaxPool)]  # fmt: skip
    across = any(getattr(layer, "across_towers", False) for layer in architecture.layers)
    return norm[0] if across else None


def _guesses(named: str, layers: Layers, kinds: list) -> list[str]:
    order = norm_before_pool(kinds)
    if order is not None:
        return fitting(layers, lambda architecture: has_norm_first(architecture) is order)
    found = fitting(layers, lambda architecture: has_norm_first(architecture) is not None)
    return [NAMED[named]] if NAMED.get(named) in found else found


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
                f"{name}: its layer {layer.name} has {len(layer.blobs)} arrays, where a kernel and "
                "a bias were expected: it is no AlexNet of Caffe."
            )
        kernel, bias = map(caffe_messages.array, layer.blobs)
        if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):  # a dense layer in the old form
            kernel = kernel[0, 0]
        layers.append((layer.name, kernel, bias.reshape(-1)))
    return layers, [layer.type for layer in described]
