"""This project's own ONNX files: a network from stored pixels to probabilities, written and read.

The input `images` is uint8 [batch, size, size, channels], RGB or grey, of any batch size; `logits`
and `probabilities` are float32 [batch, classes]. Center crop, mean and divisor are in the graph.
The weights are initializers LAYER.weight and LAYER.bias in the layout of weights/standard.py;
network, classes and pixels are metadata, described in weights/header.py.
"""

import pathlib

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.optional_imports import require_package
from alexnet_jax.weights import atomic_write, header, onnx_graph, standard
from alexnet_jax.weights.trained import Trained

OPSET, IR_VERSION = 13, 7  # ONNX 1.8 of 2020
MAX_ARRAY_BYTES = 2**31 - 2**24  # the limit of a protobuf message, less the rest of the file


def write_onnx(path: pathlib.Path, trained: Trained) -> None:
    """Write the network as ONNX, opset 13.

    Raises UserError where the standard layout can't hold the network, it is larger than an ONNX
    file can be, or the package onnx is missing.
    """
    with require_package("onnx", f"Writing {path}"):
        import onnx
    helper, kinds = onnx.helper, onnx.TensorProto
    architecture, pixels = trained.architecture, trained.pixels
    weights = standard.to_standard(architecture, trained.parameters)
    graph = onnx_graph.build_graph(architecture, weights, pixels)
    size = sum(array.nbytes for array in graph.arrays.values())
    if size > MAX_ARRAY_BYTES:
        raise UserError(
            f"{path} would hold {size / 1e9:.1f} GB, and an ONNX file holds 2 GB: keep the network "
            "as safetensors."
        )
    images: list[str | int | None] = ["batch", pixels.size, pixels.size, architecture.channels]
    outputs = (onnx_graph.LOGITS, onnx_graph.PROBABILITIES)
    fields = header.build_header(trained)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            trained.variant.network,
            [helper.make_tensor_value_info(onnx_graph.IMAGES, kinds.UINT8, images)],
            [
                helper.make_tensor_value_info(name, kinds.FLOAT, ["batch", len(trained.classes)])
                for name in outputs
            ],
            [onnx.numpy_helper.from_array(array, name) for name, array in graph.arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="alexnet_jax",
        doc_string=fields["description"],
    )
    helper.set_model_props(model, fields)
    with atomic_write.atomic_path(path) as partial:
        partial.write_bytes(model.SerializeToString())


def read_native_onnx(path: pathlib.Path) -> Trained:
    """What `write_onnx` wrote, with the same bits; UserError for anything else."""
    with require_package("onnx", f"Reading {path}"):
        import onnx
    from google.protobuf import message

    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except (OSError, message.DecodeError) as error:
        raise UserError(
            f"{path} can't be read as ONNX ({error}): it is damaged or cut off; convert it anew."
        ) from error
    fields = {field.key: field.value for field in model.metadata_props}
    header.check_format(fields, str(path))
    description = header.read_header(fields, str(path))
    stored = {array.name: array for array in model.graph.initializer}

    def array(name: str) -> np.ndarray:
        if name not in stored:
            raise UserError(f"{path} holds no {name}: convert the weights anew.")
        return onnx.numpy_helper.to_array(stored[name])

    architecture, num_classes = description.variant.architecture(), len(description.classes)
    weights = {
        layer: (array(f"{layer}.weight"), array(f"{layer}.bias"))
        for layer in standard.standard_shapes(architecture, num_classes)
    }
    return header.trained_from(
        str(path),
        description,
        parameters=standard.from_standard(
            architecture, weights, num_classes=num_classes, file=str(path)
        ),
        mean=array(onnx_graph.MEAN),
        divisor=array(onnx_graph.DIVISOR),
    )
