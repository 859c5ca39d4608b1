"""Compares a converted network with the program that its file comes from, if it is installed.

That program reads the file by itself; both compute the logits of one image of random pixels.
"""

import pathlib

import jax
import numpy as np

from alexnet_jax.model import alexnet
from alexnet_jax.tools import inference
from alexnet_jax.tools.convert import prototxt
from alexnet_jax.weights import conventions
from alexnet_jax.weights.files import FileKind
from alexnet_jax.weights.trained import Trained

PIXEL_DEVIATION = 60.0  # standard deviation of the random pixels, grey levels


def compare_logits(
    path: pathlib.Path, kind: FileKind, trained: Trained
) -> tuple[str, float, float] | None:
    """(program, largest difference of the logits, their standard deviation).

    None where the program is not installed, or can't run such a file.
    """
    architecture = trained.architecture
    side, channels = architecture.input_size, architecture.channels
    image = np.random.default_rng(0).normal(scale=PIXEL_DEVIATION, size=(1, side, side, channels))
    image = image.astype(np.float32)
    bgr = conventions.norm_before_pooling(architecture) is not None
    planes = np.ascontiguousarray((image[..., ::-1] if bgr else image).transpose(0, 3, 1, 2))
    try:
        match kind:
            case FileKind.CAFFE:
                program, expected = "OpenCV", _opencv(path, trained, planes)
            case FileKind.TORCH if architecture.name == conventions.TORCHVISION:
                program, expected = "PyTorch", _torch(path, planes)
            case FileKind.ONNX:
                program, expected = "ONNX Runtime", _onnx_runtime(path, planes)
            case _:
                return None
    except ImportError:
        return None
    if expected is None:
        return None
    graph = inference.tuned_graph(trained)
    apply = jax.jit(lambda parameters, x: alexnet.apply(graph, parameters, x))
    logits = np.asarray(apply(trained.parameters, image))
    return program, float(np.abs(logits - expected).max()), float(expected.std())


def _opencv(path: pathlib.Path, trained: Trained, planes: np.ndarray) -> np.ndarray | None:
    """OpenCV's logits [1, classes]; None for files of 2013, which it does not read."""
    import cv2

    text = prototxt.deploy_prototxt(trained.architecture, len(trained.classes)).encode()
    try:
        net = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.fromfile(path, np.uint8))
        net.setInput(planes)
        return net.forward()
    except cv2.error:
        return None


def _onnx_runtime(path: pathlib.Path, planes: np.ndarray) -> np.ndarray | None:
    """ONNX Runtime's logits [1, classes]; None where it can't run images of this size.

    The logits are the input of the last softmax, or the output of the graph.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path)
    image = model.graph.input[0]
    if image.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        return None  # a file of this project, with the preprocessing in the graph
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"]
    logits = softmax[-1].input[0] if softmax else model.graph.output[0].name
    describe = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    del model.graph.output[:], model.graph.value_info[:]
    model.graph.output.append(describe(logits, kind, None))
    image.CopyFrom(describe(image.name, kind, planes.shape))
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run([logits], {image.name: planes})[0]
    except Exception:  # of types that the package does not export
        return None


def _torch(path: pathlib.Path, planes: np.ndarray) -> np.ndarray:
    """Logits [1, classes] of torchvision.models.AlexNet, built from PyTorch's own layers."""
    import torch
    from torch import nn

    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    state = {name.replace("module.", ""): tensor.float() for name, tensor in state.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    conv = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}  # stride, padding
    features, classifier = nn.Sequential(), nn.Sequential()
    for index in range(13):
        if index in conv:
            filters, channels, size, _ = shapes[f"features.{index}.weight"]
            features.append(nn.Conv2d(channels, filters, size, *conv[index]))
        else:
            features.append(nn.MaxPool2d(3, 2) if index in (2, 5, 12) else nn.ReLU())
    for index in range(7):
        if index in (1, 4, 6):
            classifier.append(nn.Linear(*shapes[f"classifier.{index}.weight"][::-1]))
        else:
            classifier.append(nn.Dropout() if index in (0, 3) else nn.ReLU())
    model = nn.ModuleDict({"features": features, "classifier": classifier}).train(False)
    model.load_state_dict(state)
    with torch.no_grad():
        return classifier(features(torch.from_numpy(planes)).flatten(1)).numpy()
