"""Weights on their way out: safetensors, ONNX, a state dict of PyTorch, StableHLO."""

import dataclasses
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from alexnet_jax import inference, stablehlo
from alexnet_jax.errors import UserError
from alexnet_jax.model.networks import NETWORKS, Variant
from alexnet_jax.weights import onnx_model, safetensors, standard, torch_state
from tests import weighted

CANNOT = (
    "net120_2012", "net131", "net135", "net137", "net146_2011", "net150", "cifar_11pct",
    "cifar_13pct",
)  # fmt: skip
CAN = [name for name in NETWORKS if name not in CANNOT]


def peer(name):
    return pytest.importorskip(
        name, reason=f"{name} is not installed: tests/requirements-peers.txt"
    )


def images_for(trained, rows=2):
    shape = (rows, trained.pixels.size, trained.pixels.size, trained.architecture.channels)
    small = np.random.default_rng(3).integers(0, 256, (rows, 8, 8, shape[3]))
    repeats = -(-shape[1] // 8)
    return small.repeat(repeats, 1).repeat(repeats, 2)[:, : shape[1], : shape[2]].astype(np.uint8)


def assert_same(one, other):
    """Equal to the bit, but for the name."""
    assert one.variant == other.variant
    assert one.classes == other.classes
    pairs = jax.tree.map(lambda a, b: (a, b), one.parameters, other.parameters)
    for a, b in jax.tree.leaves(pairs, is_leaf=lambda pair: isinstance(pair, tuple)):
        assert b.dtype == np.float32
        assert np.array_equal(a, b)
    for field in dataclasses.fields(one.pixels):
        a, b = (getattr(which.pixels, field.name) for which in (one, other))
        assert np.array_equal(a, b), field.name


def test_safetensors_come_back_to_the_bit(tmp_path):
    size = 32
    mean = np.random.default_rng(0).uniform(90, 130, (size, size, 3))
    trained = weighted.trained(
        "quickstart", width=1 / 4, size=size, mean=mean, mean_at_crop=True, warp=True,
        divisor=[50.0, 60.0, 70.0],
    )  # fmt: skip
    file = tmp_path / "one.safetensors"
    safetensors.write(file, trained)
    assert_same(trained, safetensors.read(file))
    assert [path.name for path in tmp_path.iterdir()] == ["one.safetensors"]
    whole = file.read_bytes()
    for damaged, said in (
        (whole[:-100], "can't be read as safetensors"),
        (whole[:60], "can't be read as safetensors"),
        (b"", "can't be read as safetensors"),
        (whole.replace(b'quickstart', b'quickstort'), "has a damaged header .There is no network"),
        (whole.replace(b'quickstart\\"', b'lenet5\\"    ', 1), "not hold the weights of lenet5"),
        (whole.replace(b"fc7.bias", b"fc9.bias"), "fc7 differs"),
        (whole.replace(b"pixels.mean\"", b"pixels.meen\"", 1), "holds no pixels.mean"),
    ):  # fmt: skip
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=said):
            safetensors.read(file)
    with pytest.raises(UserError, match="can't be written"):
        safetensors.write(tmp_path / "nowhere/one.safetensors", trained)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "cifar_18pct")) for name in CAN]
)
def test_onnx_runtime_says_the_same(tmp_path, name):
    peer("onnx")
    runtime = peer("onnxruntime")
    trained = weighted.trained(name, width=1 / 16)
    file = tmp_path / "one.onnx"
    onnx_model.write(file, trained)
    images = images_for(trained)
    session = runtime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"images": images})
    ours = inference.activations_of(trained, (trained.architecture.layers[-1].name,))
    (expected,) = ours(trained.parameters, images).values()
    assert np.std(expected) > 1e-2
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    expected = np.exp(inference.log_probabilities(trained)(trained.parameters, images))
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    assert_same(trained, onnx_model.read(file))


@pytest.mark.parametrize("name", CANNOT)
def test_what_other_layouts_cannot_hold_is_said(name):
    with pytest.raises(UserError, match=f"The network {name} can't be written in the layout of"):
        standard.check_standard(Variant(name).architecture())


@pytest.mark.slow
@pytest.mark.parametrize("pixels", [{}, {"mean_at_crop": True}, {"mean": [1.0, 2.0, 3.0]}])
def test_onnx_holds_every_kind_of_pixels(tmp_path, pixels):
    peer("onnx")
    runtime = peer("onnxruntime")
    if "mean_at_crop" in pixels:
        pixels = pixels | {"mean": np.random.default_rng(0).uniform(0, 255, (32, 32, 3))}
    trained = weighted.trained(
        "quickstart", width=1 / 4, size=32, divisor=[20.0, 30.0, 40.0], **pixels
    )
    file = tmp_path / "one.onnx"
    onnx_model.write(file, trained)
    images = images_for(trained)
    session = runtime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": images})
    expected = np.exp(inference.log_probabilities(trained)(trained.parameters, images))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_pytorch_takes_the_state_dict_under_torchvisions_names(tmp_path):
    torch = peer("torch")
    trained = weighted.trained("one_weird_trick", width=1, mean=[120, 110, 100], divisor=60)
    file = tmp_path / "one.pth"
    assert torch_state.write(file, trained) == [file, tmp_path / "one.pth.json"]
    nn = torch.nn
    # torchvision.models.alexnet, at evaluation
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096),
        nn.ReLU(), nn.Linear(4096, 10),
    )  # fmt: skip
    module = nn.ModuleDict({"features": features, "classifier": classifier}).eval()
    module.load_state_dict(torch.load(file, weights_only=True))
    images = images_for(trained)
    start = (trained.pixels.size - 224) // 2
    pixels = images[:, start : start + 224, start : start + 224].astype(np.float32)
    inputs = torch.tensor((pixels - np.float32([120, 110, 100])) / 60).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = classifier(features(inputs).flatten(1)).numpy()
    found = inference.activations_of(trained, ("fc8",))(trained.parameters, images)["fc8"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_a_program_runs_without_this_project(tmp_path):
    trained = weighted.trained("quickstart", width=1 / 4, size=32)
    stablehlo.write(tmp_path / "one.stablehlo", trained)
    images = images_for(trained, rows=5)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import jax, numpy, pathlib, sys\n"
        "program = jax.export.deserialize(pathlib.Path('one.stablehlo').read_bytes())\n"
        "numpy.save('found.npy', program.call(numpy.load('images.npy')))\n"
        "assert 'alexnet_jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    expected = np.exp(inference.log_probabilities(trained)(trained.parameters, images))
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-6)


@pytest.mark.slow
def test_net145_at_full_size(tmp_path):
    peer("onnx")
    runtime = peer("onnxruntime")
    trained = weighted.trained("net145", classes=1000, width=1, size=256)
    onnx_model.write(tmp_path / "net145.onnx", trained)
    images = images_for(trained)
    session = runtime.InferenceSession(pathlib.Path(tmp_path / "net145.onnx").read_bytes())
    (logits,) = session.run(["logits"], {"images": images})
    found = inference.activations_of(trained, ("fc8",))(trained.parameters, images)["fc8"]
    np.testing.assert_allclose(logits, found, atol=1e-4 * np.abs(found).max())
    for one, other in zip(logits, np.asarray(found), strict=True):
        assert list(np.argsort(-one)[:5]) == list(np.argsort(-other)[:5])
