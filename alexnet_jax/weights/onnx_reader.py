"""Reads ONNX files: this project's, bvlcalexnet and caffenet of the ONNX model zoo, PyTorch's.

Caffe's networks are assumed to expect BGR images, as in the zoo. The zoo's files have inputs of 224
pixels and pad the last pooling; they are read as the networks of 227 pixels from which they were
converted, whose weights they have.
"""

import pathlib

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.optional_imports import first_line, require_package
from alexnet_jax.weights import caffe, conventions, header, onnx_model
from alexnet_jax.weights.layer_arrays import LayerArrays, matching_networks, trained_from_layers
from alexnet_jax.weights.trained import Trained
from alexnet_jax.weights.user_hints import UserHints


def read_onnx(path: pathlib.Path, hints: UserHints) -> Trained:
    """The network of an ONNX file; UserError where it is unknown, or the file holds no weights."""
    with require_package("onnx", f"Reading {path}"):
        import onnx
    try:
        model = onnx.load(path)
    except Exception as error:  # of many types
        raise UserError(
            f"{path} can't be read as ONNX ({first_line(error)}): it is cut short or damaged, or "
            "the file with its weights is missing."
        ) from error
    if any(field.value == header.FORMAT for field in model.metadata_props):
        return onnx_model.read_native_onnx(path)
    layers = _layers(onnx, model.graph, str(path))
    kinds = [node.op_type for node in model.graph.node]
    if not layers:
        raise UserError(f"{path} holds no convolution and no dense layer: it is no AlexNet.")
    candidates = (
        caffe.candidate_networks(layers, kinds)
        if "LRN" in kinds
        else list(matching_networks(layers))
    )
    variant = hints.choose_variant(str(path), candidates)
    if conventions.norm_before_pooling(variant.architecture()) is not None:
        return caffe.from_caffe_layers(layers, kinds, hints, file=str(path))
    return trained_from_layers(
        layers,
        variant,
        hints,
        file=str(path),
        pixels=lambda architecture: conventions.default_pixels(architecture, hints, str(path)),
    )


def _layers(onnx, graph, file: str) -> list[LayerArrays]:
    """(name of the output, kernel, bias) of each Conv and Gemm, in order."""
    stored = {array.name: array for array in graph.initializer}
    layers = []
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        missing = [name for name in node.input[1:] if name and name not in stored]
        if missing:
            raise UserError(
                f"{file} does not hold the weights {missing[0]}, but computes them or expects them "
                "as an input: give a file with its weights as initializers."
            )
        kernel, *rest = (onnx.numpy_helper.to_array(stored[name]) for name in node.input[1:])
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Gemm":
            odd = [field for field in ("alpha", "beta") if attributes.get(field, 1) != 1]
            if odd or attributes.get("transA", 0):
                raise UserError(f"{file} is no AlexNet: a Gemm in it has {odd or ['transA']}.")
            kernel = kernel if attributes.get("transB", 0) else kernel.T
        bias = rest[0] if rest else np.zeros(len(kernel), np.float32)
        kernel, bias = (np.asarray(array, np.float32) for array in (kernel, bias))
        layers.append((node.output[0], kernel, bias.reshape(-1)))
    return layers
