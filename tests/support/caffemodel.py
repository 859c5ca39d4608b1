"""A network in the files of Caffe: a prototxt and the bytes of a caffemodel and a binaryproto."""

import struct

import numpy as np

from alexnet_jax.model import layers
from alexnet_jax.model.layers import Convolution, Dense, Output


def prototxt(architecture, num_classes):
    """The deploy file; two towers become group: 2 where a layer sees its own tower alone."""
    side, channels = architecture.input_size, architecture.channels
    lines = [
        f'input: "data" input_dim: 1 input_dim: {channels} input_dim: {side} input_dim: {side}'
    ]
    bottom, sees_all_towers = "data", True

    def add(name, kind, parameters="", in_place=False):
        nonlocal bottom
        top = bottom if in_place else name
        lines.append(f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" '
                     f"{parameters} }}")  # fmt: skip
        bottom = top

    for index, layer in enumerate(architecture.layers):
        match layer:
            case Convolution():
                group = 1 if sees_all_towers else architecture.towers
                add(layer.name, "Convolution",
                    f"convolution_param {{ num_output: {layer.filters} kernel_size: {layer.size} "
                    f"stride: {layer.stride} pad: {layer.padding} group: {group} }}")  # fmt: skip
                sees_all_towers = False
            case Dense():
                add(layer.name, "InnerProduct",
                    f"inner_product_param {{ num_output: {layer.units} }}")  # fmt: skip
            case Output():
                add(layer.name, "InnerProduct",
                    f"inner_product_param {{ num_output: {num_classes} }}")  # fmt: skip
            case layers.ReLU():
                add(f"relu{index}", "ReLU", in_place=True)
            case layers.ResponseNorm():
                add(f"norm{index}", "LRN",
                    f"lrn_param {{ local_size: {layer.n} alpha: {layer.alpha * layer.n} "
                    f"beta: {layer.beta} k: {layer.k} }}")  # fmt: skip
            case layers.MaxPool():
                add(f"pool{index}", "Pooling",
                    f"pooling_param {{ pool: MAX kernel_size: {layer.size} "
                    f"stride: {layer.stride} }}")  # fmt: skip
            case layers.Dropout():
                add(f"drop{index}", "Dropout", in_place=True)
            case layers.Exchange():
                sees_all_towers = True
    return "\n".join(lines).encode()


def weights_only(weights):
    """A NetParameter with the blobs of {layer: (kind, kernel, bias)} and no other layer."""
    return b"".join(
        _message(100, _text(1, name) + _text(2, kind) + _blob(kernel) + _blob(bias))
        for name, (kind, kernel, bias) in weights.items()
    )


# The names of a layer in new and old files, and its number in V1LayerParameter.
KINDS = {
    Convolution: ("Convolution", "conv", 4), Dense: ("InnerProduct", "innerproduct", 14),
    Output: ("InnerProduct", "innerproduct", 14), layers.ResponseNorm: ("LRN", "lrn", 15),
    layers.MaxPool: ("Pooling", "pool", 17), layers.ReLU: ("ReLU", "relu", 18),
    layers.Dropout: ("Dropout", "dropout", 6),
}  # fmt: skip


def caffemodel(architecture, weights, generation="layers", name=""):
    """A file with all layers as Caffe saves it, its weights {layer: (kernel, bias)}.

    `generation` is "layer" (from 2014), "layers" (V1, the published files) or "oldest" (2013).
    """
    data = _text(1, name) if name else b""
    for index, layer in enumerate(architecture.layers):
        if type(layer) not in KINDS:
            continue
        new, old, number = KINDS[type(layer)]
        layer_name = getattr(layer, "name", f"{old}{index}")
        arrays = weights.get(layer_name, ())
        if generation == "layer":
            blobs = b"".join(_blob(array) for array in arrays)
            data += _message(100, _text(1, layer_name) + _text(2, new) + blobs)
            continue
        blobs = [_old_blob(array) for array in arrays]
        if generation == "layers":
            message = _text(4, layer_name) + _varint(5 << 3) + _varint(number)
            message += b"".join(_message(6, blob) for blob in blobs)
        else:
            message = _message(1, _text(1, layer_name) + _text(2, old) +
                           b"".join(_message(50, blob) for blob in blobs))  # fmt: skip
        data += _message(2, message)
    return data


def binaryproto(image):
    """A binaryproto of [channels, height, width], as doubles or floats."""
    return _old_blob(image)


def _old_blob(array):
    """BlobProto with num, channels, height and width, 1 where there are fewer."""
    shape = (1,) * (4 - array.ndim) + array.shape
    dimensions = b"".join(_varint(n << 3) + _varint(d) for n, d in enumerate(shape, start=1))
    if array.dtype == np.float64:
        return dimensions + _message(8, np.ascontiguousarray(array, "<f8").tobytes())
    return dimensions + _message(5, np.ascontiguousarray(array, "<f4").tobytes())


def _blob(array):
    """LayerParameter.blobs = 7: BlobProto with shape = 7 { dim = 1 } and data = 5, packed."""
    shape = _message(7, _message(1, b"".join(_varint(n) for n in array.shape)))
    data = _message(5, np.ascontiguousarray(array, "<f4").tobytes())
    return _message(7, data + shape)


def _message(field, content):
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field, text):
    return _message(field, text.encode())


def _varint(number):
    data = b""
    while number > 127:
        data += struct.pack("B", number & 127 | 128)
        number >>= 7
    return data + struct.pack("B", number)
