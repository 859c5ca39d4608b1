"""Networks as ONNX under ONNX Runtime. A test is skipped where onnx or it is not installed."""

import numpy as np
import pytest

from alexnet_jax.model import layers
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    ContrastNorm,
    Convolution,
    Dense,
    Output,
    ResponseNorm,
    SpatialNorm,
)
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import onnx_graph, onnx_model, standard
from tests.model import test_other_implementations
from tests.support import weighted
from tests.support.exported import assert_same, images_for, logits_of, network, softmax

QUICK = ("quickstart", "lenet5")


def holds(name):
    """Whether the layout of other programs can hold the network."""
    try:
        standard.check_standard(NETWORKS[name])
    except UserError:
        return False
    return True


HELD = [name for name in NETWORKS if holds(name)]
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in HELD if name not in QUICK]


def run_onnx(path, images):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"images": images})


@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_onnx_runtime_agrees_and_the_file_reads_back(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    trained, path = network(name), tmp_path / "network.onnx"
    onnx_model.write_onnx(path, trained)
    onnx.checker.check_model(str(path), full_check=True)
    images = images_for(trained)
    logits, probabilities = run_onnx(path, images)
    test_other_implementations.assert_close(logits_of(trained, images), logits, 1e-5)
    np.testing.assert_allclose(probabilities, softmax(logits), atol=1e-5)
    one, _ = run_onnx(path, images[:1])  # another batch size
    test_other_implementations.assert_close(one, logits[:1], 1e-5)
    assert_same(onnx_model.read_native_onnx(path), trained)


@pytest.mark.slow
@pytest.mark.parametrize("name", HELD)
def test_opencv_agrees(name, tmp_path):
    """It reads an image at a time, with rules of its own for windows and means."""
    pytest.importorskip("onnx")
    cv2 = pytest.importorskip("cv2")
    trained, path = network(name), tmp_path / "network.onnx"
    onnx_model.write_onnx(path, trained)
    images = images_for(trained, batch=1)
    reader = cv2.dnn.readNetFromONNX(str(path))
    reader.setInput(images, "images")
    test_other_implementations.assert_close(
        logits_of(trained, images), reader.forward("logits"), 1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "pixels",
    [
        {"mean": np.float32(110), "divisor": np.float32(1)},
        {"mean": np.float32([100, 120, 90]), "warp": True},
        {"mean": np.linspace(90, 130, 33 * 33 * 3).reshape(33, 33, 3), "mean_at_crop": True},
    ],
)
def test_every_kind_of_mean_is_in_the_onnx_file(pixels, tmp_path):
    pytest.importorskip("onnx")
    trained, path = network("quickstart", size=33, **pixels), tmp_path / "network.onnx"
    onnx_model.write_onnx(path, trained)
    images = images_for(trained)
    test_other_implementations.assert_close(
        logits_of(trained, images), run_onnx(path, images)[0], 1e-5
    )
    assert_same(onnx_model.read_native_onnx(path), trained)


@pytest.mark.slow
@pytest.mark.parametrize("towers", [1, 2])
def test_every_kind_of_layer_has_its_onnx_operations(towers, monkeypatch, tmp_path):
    """Kinds and sizes that no network of the lists has with weights that ONNX can hold."""
    pytest.importorskip("onnx")
    odd = Architecture(
        "odd", 31, 3, towers,
        (
            Convolution("conv1", 8, size=4, stride=3, padding=1, floor=True), layers.Sigmoid(),
            ContrastNorm(n=4, k=1.5, alpha=0.2, beta=0.6),
            Convolution("conv2", 8, size=3, stride=2), layers.Tanh(1.7159, 2 / 3),
            SpatialNorm(n=2, k=0.5, alpha=0.3, beta=0.75), layers.Dropout(0.7),
            ResponseNorm(n=3, k=1, alpha=0.4, beta=0.75, across_towers=True), layers.Exchange(),
            layers.AveragePool(3, 2), ResponseNorm(n=3, k=1, alpha=0.4, beta=0.5),
            Convolution("conv3", 8, size=3, padding=2), layers.MaxPool(5, 4), layers.Exchange(),
            Dense("fc4", 12), layers.ReLU(), Output("fc5"),
        ),
    )  # fmt: skip
    monkeypatch.setitem(NETWORKS, "odd", odd)
    trained = weighted.trained("odd", width=1, divisor=100)
    images = images_for(trained, batch=3)
    onnx_model.write_onnx(tmp_path / "odd.onnx", trained)
    logits, _ = run_onnx(tmp_path / "odd.onnx", images)
    test_other_implementations.assert_close(logits_of(trained, images), logits, 1e-5)


def test_a_norm_that_onnx_does_not_have_is_refused():
    even = Architecture("even", 8, 3, 1, (ResponseNorm(4, 2, 1, 0.75), Output("fc")))
    with pytest.raises(UserError, match="ONNX has no norm over an even number of channels, 4"):
        onnx_graph.build_graph(even, {}, weighted.trained("quickstart").pixels)


@pytest.mark.slow
def test_net_145_in_full_size_as_onnx(tmp_path):
    pytest.importorskip("onnx")
    trained = weighted.trained("net145", classes=1000, width=1, size=256)
    images = images_for(trained)
    onnx_model.write_onnx(tmp_path / "net145.onnx", trained)
    logits, probabilities = run_onnx(tmp_path / "net145.onnx", images)
    ours = logits_of(trained, images)
    np.testing.assert_allclose(ours, logits, atol=1e-4)
    best = np.argsort(-ours)[:, :5]
    np.testing.assert_array_equal(best, np.argsort(-logits)[:, :5])
    np.testing.assert_array_equal(best, np.argsort(-probabilities)[:, :5])


@pytest.fixture(scope="module")
def quickstart():
    return network("quickstart", width=1 / 8)


def test_an_onnx_file_has_a_largest_size(quickstart, monkeypatch, tmp_path):
    pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_model, "MAX_ARRAY_BYTES", 1000)
    with pytest.raises(UserError, match="an ONNX file holds 2 GB: keep the network as safetensors"):
        onnx_model.write_onnx(tmp_path / "file.onnx", quickstart)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_onnx_file_has_its_sentence(quickstart, tmp_path):
    onnx, path = pytest.importorskip("onnx"), tmp_path / "network.onnx"
    onnx_model.write_onnx(path, quickstart)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="can't be read as ONNX"):
        onnx_model.read_native_onnx(path)
    model = onnx.load_model_from_string(data)
    (fc6,) = (index for index, array in enumerate(model.graph.initializer)
              if array.name == "fc6.weight")  # fmt: skip
    del model.graph.initializer[fc6]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"holds no fc6\.weight: convert the weights anew"):
        onnx_model.read_native_onnx(path)
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="is not a file of weights of this program"):
        onnx_model.read_native_onnx(path)
