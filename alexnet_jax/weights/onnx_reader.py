"""Reads weights from ONNX files: ours, bvlcalexnet and caffenet of the ONNX model zoo, PyTorch's.

Those of Caffe's networks are taken to see blue, green and red, as in the zoo. Its files say 224
pixels and pad the last pooling; they are read as the networks of 227 pixels that they were
converted from, whose weights they have.
"""

import pathlib

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import caffe, conventions, header, onnx_model, standard
from alexnet_jax.weights.optional_imports import require_package
from alexnet_jax.weights.trained import Trained
from alexnet_jax.weights.user_hints import Layers, UserHints, matching_networks, rename_by_order


def read_onnx(path: pathlib.Path, hints: UserHints) -> Trained:
    """The network of an ONNX file; UserError where it is none known here, or holds no weights."""
    with require_package("onnx", f"Reading {path}"):
        import onnx
    try:
        model = onnx.load(path)
    except Exception as error:  # of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} can't be read as ONNX ({reason[:100]}): it is cut short or damaged, or the "
            "file with its weights is missing."
        ) from error
    if any(field.value == header.FORMAT for field in model.metadata_props):
        return onnx_model.read_native_onnx(path)
    layers = _layers(onnx, model.graph, str(path))
    kinds = [node.op_type for node in model.graph.node]
    if not layers:
        raise UserError(f"{path} holds no convolution and no dense layer: it is no AlexNet.")
    guesses = (
        caffe.candidate_networks(layers, kinds)
        if "LRN" in kinds
        else list(matching_networks(layers))
    )
    variant = hints.choose_variant(str(path), guesses)
    architecture, classes = variant.architecture(), len(layers[-1][2])
    if conventions.norm_before_pooling(architecture) is not None:
        return caffe.from_caffe_layers(layers, kinds, hints, str(path))
    given = rename_by_order(layers, variant)
    return Trained(
        name=str(path),
        variant=variant,
        classes=hints.class_names(classes, str(path)),
        parameters=standard.from_standard(architecture, classes, given, str(path)),
        pixels=conventions.default_pixels(architecture, hints, str(path)),
    )


def _layers(onnx, graph, name: str) -> Layers:
    """(name of the output, kernel, bias) of each Conv and Gemm, in order."""
    stored = {array.name: array for array in graph.initializer}
    layers = []
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        missing = [given for given in node.input[1:] if given and given not in stored]
        if missing:
            raise UserError(
                f"{name} does not hold the weights {missing[0]}, but computes them or expects them "
                "as an input: give a file with its weights as initializers."
            )
        kernel, *rest = (onnx.numpy_helper.to_array(stored[given]) for given in node.input[1:])
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Gemm":
            odd = [field for field in ("alpha", "beta") if attributes.get(field, 1) != 1]
            if odd or attributes.get("transA", 0):
                raise UserError(f"{name} is no AlexNet: a Gemm in it has {odd or ['transA']}.")
            kernel = kernel if attributes.get("transB", 0) else kernel.T
        bias = rest[0] if rest else np.zeros(len(kernel), np.float32)
        layers.append((node.output[0], np.float32(kernel), np.float32(bias).reshape(-1)))
    return layers
