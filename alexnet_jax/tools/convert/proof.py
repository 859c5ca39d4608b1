"""A converted network against the program that its file comes from, where that is installed.

That program reads the file by itself; both are shown one image of random pixels.
"""

import pathlib

import jax
import numpy as np

from alexnet_jax.model import alexnet
from alexnet_jax.tools.convert import prototxt
from alexnet_jax.weights import conventions
from alexnet_jax.weights.files import FileKind
from alexnet_jax.weights.trained import Trained

SPREAD = 60.0  # of the random pixels, grey levels


def differences(
    path: pathlib.Path, kind: FileKind, trained: Trained
) -> tuple[str, float, float] | None:
    """(program, largest difference of the logits, their standard deviation).

    None where the program is missing, or can't run such a file.
    """
    architecture = trained.architecture
    side, channels = architecture.input_size, architecture.channels
    image = np.random.default_rng(0).normal(scale=SPREAD, size=(1, side, side, channels))
    image = image.astype(np.float32)
    bgr = conventions.norm_before_pooling(architecture) is not None
    planes = np.ascontiguousarray((image[..., ::-1] if bgr else image).transpose(0, 3, 1, 2))
    try:
        match kind:
            case FileKind.CAFFE:
                program, theirs = "OpenCV", _opencv(path, trained, planes)
            case FileKind.TORCH if architecture.name == conventions.TORCHVISION:
                program, theirs = "PyTorch", _torch(path, planes)
            case FileKind.ONNX:
                program, theirs = "ONNX Runtime", _onnx_runtime(path, planes)
            case _:
                return None
    except ImportError:
        return None
    if theirs is None:
        return None
    graph = alexnet.graph_of(architecture, len(trained.classes))
    apply = jax.jit(lambda parameters, x: alexnet.apply(graph, parameters, x))
    ours = np.asarray(apply(trained.parameters, image))
    return program, float(np.abs(ours - theirs).max()), float(theirs.std())


def _opencv(path: pathlib.Path, trained: Trained, planes: np.ndarray) -> np.ndarray | None:
    """None for files of 2013, which OpenCV does not read."""
    import cv2

    text = prototxt.deploy(trained.architecture, len(trained.classes)).encode()
    try:
        net = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.fromfile(path, np.uint8))
        net.setInput(planes)
        return net.forward()
    except cv2.error:
        return None


def _onnx_runtime(path: pathlib.Path, planes: np.ndarray) -> np.ndarray | None:
    """The input of the softmax, or the output; None where images of this size do not fit."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    given = model.graph.input[0]
    if given.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        return None  # ours: with the preprocessing inside
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"]
    logits = softmax[-1].input[0] if softmax else model.graph.output[0].name
    shaped = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    del model.graph.output[:], model.graph.value_info[:]
    model.graph.output.append(shaped(logits, kind, None))
    given.CopyFrom(shaped(given.name, kind, planes.shape))
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run([logits], {given.name: planes})[0]
    except Exception:  # of its own kinds, which it does not export
        return None


def _torch(path: pathlib.Path, planes: np.ndarray) -> np.ndarray:
    """torchvision.models.AlexNet in its own layers, which take the state dict as it is."""
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
            filters, maps, size, _ = shapes[f"features.{index}.weight"]
            layer = nn.Conv2d(maps, filters, size, *conv[index])
        else:
            layer = nn.MaxPool2d(3, 2) if index in (2, 5, 12) else nn.ReLU()
        features.append(layer)
    for index in range(7):
        if index in (1, 4, 6):
            layer = nn.Linear(*shapes[f"classifier.{index}.weight"][::-1])
        else:
            layer = nn.Dropout() if index in (0, 3) else nn.ReLU()
        classifier.append(layer)
    model = nn.ModuleDict({"features": features, "classifier": classifier}).train(False)
    model.load_state_dict(state)
    with torch.no_grad():
        return classifier(features(torch.from_numpy(planes)).flatten(1)).numpy()
