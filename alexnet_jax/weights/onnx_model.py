"""Our ONNX files: a whole network from stored pixels to probabilities, and the way back.

The input `images` is uint8 [rows, size, size, channels], RGB or grey, any number of rows; `logits`
and `probabilities` are float32 [rows, classes]. Centre crop, mean and divisor are in the graph. The
weights are initializers LAYER.weight and LAYER.bias in the layout of weights/standard.py; network,
classes and pixels are metadata, as weights/header.py says.
"""

import pathlib
from collections.abc import Callable

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import atomic_write, header, onnx_graph, standard
from alexnet_jax.weights.optional_imports import require_package
from alexnet_jax.weights.trained import Trained

OPSET, IR_VERSION = 13, 7  # ONNX 1.8 of 2020
LARGEST = 2**31 - 2**24  # bytes of a protobuf message, less those of what is no array


def write_onnx(path: pathlib.Path, trained: Trained) -> None:
    """Write the network as ONNX.

    UserError where the layout can't hold it, it is larger than an ONNX file can be, or the package
    onnx is missing.
    """
    with require_package("onnx", f"Writing {path}"):
        import onnx
    helper, kinds = onnx.helper, onnx.TensorProto
    architecture, pixels = trained.architecture, trained.pixels
    weights = standard.to_standard(architecture, trained.parameters)
    graph = onnx_graph.build_graph(architecture, weights, pixels)
    size = sum(array.nbytes for array in graph.arrays.values())
    if size > LARGEST:
        raise UserError(
            f"{path} would hold {size / 1e9:.1f} GB, and an ONNX file holds 2 GB: keep the network "
            "as safetensors."
        )
    images = ["rows", pixels.size, pixels.size, architecture.channels]
    outputs = (onnx_graph.LOGITS, onnx_graph.PROBABILITIES)
    about = header.build_header(trained)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            trained.variant.network,
            [helper.make_tensor_value_info(onnx_graph.IMAGES, kinds.UINT8, images)],
            [
                helper.make_tensor_value_info(name, kinds.FLOAT, ["rows", len(trained.classes)])
                for name in outputs
            ],
            [onnx.numpy_helper.from_array(array, name) for name, array in graph.arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="alexnet_jax",
        doc_string=about["about"],
    )
    helper.set_model_props(model, about)
    with atomic_write.atomic_path(path) as partial:
        partial.write_bytes(model.SerializeToString())


def read_native_onnx(path: pathlib.Path) -> Trained:
    """What `write` wrote, with the same bits; UserError for anything else."""
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
    variant, classes, numbers = header.read_header(fields, str(path))
    stored = {array.name: array for array in model.graph.initializer}

    def array(name):
        if name not in stored:
            raise UserError(f"{path} holds no {name}: convert the weights anew.")
        return onnx.numpy_helper.to_array(stored[name])

    return header.trained_from(
        str(path),
        variant,
        classes,
        _parameters(variant.architecture(), len(classes), array, str(path)),
        numbers,
        array(onnx_graph.MEAN),
        array(onnx_graph.DIVISOR),
    )


def _parameters(architecture, classes: int, array: Callable, name: str) -> dict:
    layers = standard.standard_shapes(architecture, classes)
    given = {layer: (array(f"{layer}.weight"), array(f"{layer}.bias")) for layer in layers}
    return standard.from_standard(architecture, classes, given, name)
