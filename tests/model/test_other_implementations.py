"""Networks against other people's implementations: ONNX Runtime, OpenCV's Caffe reader, PyTorch.

A test is skipped where one of them is not installed.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.model import alexnet
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, MaxPool, Output, ReLU, ResponseNorm
from alexnet_jax.model.networks import NETWORKS
from tests.support import caffemodel, miniature

CLASSES = 20
pytestmark = pytest.mark.slow


def peer(name):
    return pytest.importorskip(
        name, reason=f"{name} is not installed: tests/requirements-peers.txt"
    )


def drawn(architecture, dtype=jnp.float32):
    """Random parameters and an image; wide enough weights for every layer to matter."""
    parameters = alexnet.draw_parameters(architecture, CLASSES, jax.random.key(0), dtype)
    random = np.random.default_rng(1)

    def redraw(path, leaf):
        if path[-1].key == "bias":
            return jnp.asarray(random.normal(scale=0.3, size=leaf.shape), dtype)
        inputs = np.prod(leaf.shape[1:-1])
        return jnp.asarray(random.normal(scale=(2 / inputs) ** 0.5, size=leaf.shape), dtype)

    parameters = jax.tree_util.tree_map_with_path(redraw, parameters)
    side = architecture.input_size
    return parameters, random.normal(scale=60, size=(1, side, side, 3)).astype(dtype)


def computed(architecture, parameters, image):
    """Logits by the plain operations and by the tuned ones."""
    for choice in ("reference", "tuned"):
        graph = miniature.graph_of(architecture, CLASSES, choice=choice)
        yield miniature.compiled(graph)(parameters, image)


def theirs(architecture, parameters):
    """{layer: (kernel, bias)} as other programs have them: OIHW, and [out, in] of CHW inputs."""
    result = {}
    for layer, shape in architecture.shapes():
        if not hasattr(layer, "name"):
            continue
        own = {kind: np.asarray(value) for kind, value in parameters[layer.name].items()}
        match layer:
            case Convolution():
                kernel = np.concatenate(own["kernel"], axis=-1).transpose(3, 2, 0, 1)
            case Dense():
                kernel = np.concatenate(own["kernel"], axis=-1)
                if len(shape) == 3:
                    kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3)
                kernel = kernel.reshape(-1, layer.units).T
            case Output():
                kernel = own["kernel"].reshape(-1, own["kernel"].shape[-1]).T
        result[layer.name] = (kernel, own["bias"].reshape(-1))
    return result


def assert_close(ours, others, bound):
    ours, others = np.asarray(ours, np.float64), np.asarray(others, np.float64)
    assert others.std() > 1e-3, "these logits say nothing"
    assert np.linalg.norm(ours - others) < bound * np.linalg.norm(others)


# light_zfnet512.onnx is not ZFNet 2013: other widths, an unpadded conv2 and another last pool.
ZFNET512 = Architecture(
    "zfnet512", 224, 3, 1,
    (
        Convolution("conv1", 96, size=7, stride=2, floor=True), ReLU(),
        ResponseNorm.caffe(local_size=5, alpha=5e-4, beta=0.75, k=2), MaxPool(3, 2),
        Convolution("conv2", 256, size=5, stride=2, floor=True), ReLU(),
        ResponseNorm.caffe(local_size=5, alpha=5e-4, beta=0.75, k=2), MaxPool(3, 2),
        Convolution("conv3", 512, size=3, padding=1), ReLU(),
        Convolution("conv4", 512, size=3, padding=1), ReLU(),
        Convolution("conv5", 512, size=3, padding=1), ReLU(), MaxPool(2, 2),
        Dense("fc6", 4096), ReLU(), Dense("fc7", 1024), ReLU(), Output("fc8"),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("file", "architecture"),
    [("light_bvlc_alexnet", NETWORKS["bvlc_alexnet"]), ("light_zfnet512", ZFNET512)],
)
def test_onnx_runtime_agrees(file, architecture):
    onnx, runtime = peer("onnx"), peer("onnxruntime")
    architecture = architecture.with_width(1 / 8)
    parameters, image = drawn(architecture)
    folder = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"
    model = onnx.load(folder / f"{file}.onnx")
    # Its weights are made of one constant each: put ours in their place, and logits at the end.
    nodes = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    prefix = next(node.input[1] for node in nodes if node.op_type == "Conv")[: -len("conv1_w_0")]
    stored = []
    for name, (kernel, bias) in theirs(architecture, parameters).items():
        stored += [onnx.numpy_helper.from_array(kernel, f"{prefix}{name}_w_0"),
                   onnx.numpy_helper.from_array(bias, f"{prefix}{name}_b_0")]  # fmt: skip
    flat = np.array([1, -1], np.int64)
    stored.append(onnx.numpy_helper.from_array(flat, "OC2_DUMMY_1"))
    side, images = architecture.input_size, nodes[0].input[0]
    kind = onnx.TensorProto.FLOAT
    inputs = [onnx.helper.make_tensor_value_info(images, kind, [1, 3, side, side])]
    logits = next(node for node in nodes if node.op_type == "Softmax").input[0]
    outputs = [onnx.helper.make_tensor_value_info(logits, kind, None)]
    nodes = [node for node in nodes if node.op_type != "Softmax"]
    rebuilt = onnx.helper.make_graph(nodes, file, inputs, outputs, stored)
    model = onnx.helper.make_model(
        rebuilt, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (other,) = session.run(None, {images: image.transpose(0, 3, 1, 2)})
    for ours in computed(architecture, parameters, image):
        assert_close(ours, other, 1e-5)


@pytest.mark.parametrize("name", ["bvlc_alexnet", "caffenet"])
def test_opencvs_reader_of_caffe_models_agrees(name):
    cv2 = peer("cv2")
    architecture = NETWORKS[name].with_width(1 / 8)
    parameters, image = drawn(architecture)
    kinds = {"conv": "Convolution", "fc": "InnerProduct"}
    weights = {
        layer: (kinds[layer.rstrip("12345678")], *arrays)
        for layer, arrays in theirs(architecture, parameters).items()
    }
    net = cv2.dnn.readNetFromCaffe(
        np.frombuffer(caffemodel.prototxt(architecture, CLASSES), np.uint8),
        np.frombuffer(caffemodel.weights_only(weights), np.uint8),
    )
    net.setInput(image.transpose(0, 3, 1, 2))
    other = net.forward()
    for ours in computed(architecture, parameters, image):
        assert_close(ours, other, 1e-5)


def torch_net145(functional, weights):
    """Written from layers-145.cfg: two towers as groups, norms within a tower."""

    def across(x):
        halves = x.chunk(2, dim=1)
        return _cat([functional.local_response_norm(h, 5, 1e-4, 0.75, 2.0) for h in halves])

    def within(x):
        return x / (1 + 0.001 * functional.avg_pool2d(x * x, 5, 1, 2)) ** 0.75

    def forward(x):
        x = functional.pad(x, (0, 3, 0, 3))
        x = functional.conv2d(x, *weights["conv1"], stride=4)
        x = functional.max_pool2d(across(x), 3, 2).relu()
        x = functional.conv2d(x, *weights["conv2"], padding=2, groups=2).relu()
        x = functional.max_pool2d(within(across(x)), 3, 2)
        x = functional.conv2d(x, *weights["conv3"], padding=1).relu()
        x = functional.conv2d(x, *weights["conv4"], padding=1, groups=2).relu()
        x = functional.conv2d(x, *weights["conv5"], padding=1, groups=2)
        x = functional.max_pool2d(x, 3, 2).relu().flatten(1)
        x = 0.5 * functional.linear(x, *weights["fc6"]).relu()
        x = 0.5 * functional.linear(x, *weights["fc7"]).relu()
        return functional.linear(x, *weights["fc8"])

    return forward


def torch_one_weird_trick(functional, weights):
    """torchvision.models.AlexNet at evaluation."""

    def forward(x):
        for name, stride, padding, pooled in (
            ("conv1", 4, 2, True), ("conv2", 1, 2, True), ("conv3", 1, 1, False),
            ("conv4", 1, 1, False), ("conv5", 1, 1, True),
        ):  # fmt: skip
            x = functional.conv2d(x, *weights[name], stride=stride, padding=padding).relu()
            x = functional.max_pool2d(x, 3, 2) if pooled else x
        x = x.flatten(1)
        for name in ("fc6", "fc7"):
            x = functional.linear(x, *weights[name]).relu()
        return functional.linear(x, *weights["fc8"])

    return forward


def torch_zfnet(functional, weights):
    """Zeiler and Fergus 2013, Figure 3."""

    def forward(x):
        for name, stride, padding in (("conv1", 2, 1), ("conv2", 2, 0)):
            x = functional.conv2d(x, *weights[name], stride=stride, padding=padding).relu()
            x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
            x = functional.local_response_norm(x, 5, 5e-4, 0.75, 2.0)
        for name in ("conv3", "conv4", "conv5"):
            x = functional.conv2d(x, *weights[name], padding=1).relu()
        x = functional.max_pool2d(x, 3, 2).flatten(1)
        x = 0.5 * functional.linear(x, *weights["fc6"]).relu()
        x = 0.5 * functional.linear(x, *weights["fc7"]).relu()
        return functional.linear(x, *weights["fc8"])

    return forward


def _cat(parts):
    import torch

    return torch.cat(parts, dim=1)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("net145", torch_net145),
        ("one_weird_trick", torch_one_weird_trick),
        ("zfnet", torch_zfnet),
    ],
)
def test_pytorch_agrees_with_values_and_gradients(float64, name, module):
    torch = peer("torch")
    architecture = NETWORKS[name].with_width(1 / 12)
    parameters, image = drawn(architecture, jnp.float64)
    weights = {
        layer: tuple(torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in arrays)
        for layer, arrays in theirs(architecture, parameters).items()
    }
    pixels = torch.tensor(image.transpose(0, 3, 1, 2).copy())
    other = module(torch.nn.functional, weights)(pixels)
    direction = np.random.default_rng(2).normal(size=(1, CLASSES))
    (other * torch.tensor(direction)).sum().backward()

    def ours(parameters, choice):
        graph = miniature.graph_of(architecture, CLASSES, "float64", choice)
        logits = alexnet.apply(graph, parameters, image)
        return (logits * direction).sum(), logits

    for choice in ("reference", "tuned"):
        compute = jax.jit(jax.grad(ours, has_aux=True), static_argnums=1)
        gradients, logits = compute(parameters, choice)
        assert_close(logits, other.detach().numpy(), 1e-10)
        for layer, arrays in theirs(architecture, gradients).items():
            for mine, tensor in zip(arrays, weights[layer], strict=True):
                assert_close(mine, tensor.grad.numpy(), 1e-9)
