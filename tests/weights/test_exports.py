"""Written files of weights against the programs that they are for; ONNX is in test_export_onnx.py.

A test is skipped where PyTorch or ONNX is not installed.
"""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from alexnet_jax.model.alexnet import apply, draw_parameters, graph_of
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.convert import stablehlo
from alexnet_jax.weights import files, onnx_model, safetensors, standard, torch_state
from tests.model import test_other_implementations
from tests.support.exported import assert_same, images_for, logits_of, network, softmax


@pytest.fixture(scope="module")
def quickstart():
    return network("quickstart", width=1 / 8)


@pytest.mark.parametrize(
    "pixels",
    [
        {"mean": np.float32(110), "divisor": np.float32(1)},
        {"mean": np.float32([100, 120, 90]), "warp": True},
        {"size": 33, "mean": np.linspace(9, 13, 33 * 33 * 3).reshape(33, 33, 3),
         "mean_at_crop": True},
    ],
)  # fmt: skip
def test_safetensors_come_back_with_the_same_bits(pixels, tmp_path):
    trained, path = network("quickstart", width=1 / 8, **pixels), tmp_path / "ours.safetensors"
    safetensors.write_safetensors(path, trained)
    assert_same(files.read_weights(path), trained)
    assert [file.name for file in tmp_path.iterdir()] == ["ours.safetensors"]


def test_networks_of_no_other_layout_are_kept_too(tmp_path):
    for name in ("net120_2012", "net150", "net146_2011", "cifar_11pct"):
        trained = network(name, width=1 / 32, classes=5)
        safetensors.write_safetensors(tmp_path / "file", trained)
        assert_same(safetensors.read_safetensors(tmp_path / "file"), trained)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": None}, "is not a file of weights of this program"),
        ({"format": "alexnet_jax 2"}, "or one of a newer version: .* found alexnet_jax 2"),
        ({"network": None}, "damaged header .it has no 'network'"),
        ({"network": "{"}, "damaged header .Expecting property name"),
        ({"network": '{"network": "net144"}'}, "damaged header .There is no network 'net144'"),
        ({"network": '{"network": "net145", "depth": 3}'}, "damaged header .*'depth'"),
        ({"network": '{"network": "lenet5", "width": Infinity}'}, "damaged header"),
        ({"network": '["net145"]'}, "damaged header"),
        ({"network": '{"network": "lenet5"}'}, "the weights of lenet5 .* .conv1.kernel is"),
        ({"classes": '"abc"'}, "its classes are not a list of names"),
        ({"classes": "[]"}, "its classes are not a list of names"),
        ({"classes": '["cat", "dog"]'}, r"fc8.kernel is \[2, 16, 10\], expected \[2, 16, 2\]"),
        ({"pixels": "7"}, "its pixels are 7"),
        ({"pixels": '{"size": 20, "mean_at_crop": false, "warp": false}'}, "its pixels are"),
        ({"pixels": '{"size": "32", "mean_at_crop": false, "warp": false}'}, "its pixels are"),
        ({"pixels": '{"size": 40, "mean_at_crop": true, "warp": false}'},
         r"pixels.mean of float32 \[28, 28, 3\], expected float32 \[\] or .*\[40, 40, 3\]"),
        ({"fc7.bias": None}, "it lacks fc7.bias"),
        ({"fc9.bias": np.zeros(3, np.float32)}, "it also holds fc9.bias"),
        ({"junk": np.zeros(3, np.float32)}, "it also holds .junk"),
        ({"fc7.bias": np.zeros((2, 9), np.float32)}, r"fc7.bias is \[2, 9\], expected \[2, 16\]"),
        ({"fc7.bias": np.zeros((2, 16), np.float16)}, "fc7.bias is float16, expected float32"),
        ({"pixels.divisor": None}, "holds no pixels.divisor"),
        ({"pixels.divisor": np.ones((2, 3), np.float32)}, r"divisor of float32 \[2, 3\], expected"),
        ({"pixels.mean": np.zeros(3)}, "pixels.mean of float64"),
    ],
)  # fmt: skip
def test_everything_wrong_in_our_own_file_has_its_sentence(changed, message, quickstart, tmp_path):
    path = tmp_path / "ours.safetensors"
    safetensors.write_safetensors(path, quickstart)
    with safe_open(path, framework="numpy") as file:
        parts = file.metadata() | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    parts = {name: part for name, part in (parts | changed).items() if part is not None}
    texts = {name: part for name, part in parts.items() if isinstance(part, str)}
    save_file({name: parts[name] for name in parts if name not in texts}, path, texts)
    with pytest.raises(UserError, match=message) as caught:
        safetensors.read_safetensors(path)
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 4, 60, 3000])
def test_a_file_that_was_cut_off_has_its_sentence(kept, quickstart, tmp_path):
    path = tmp_path / "ours.safetensors"
    safetensors.write_safetensors(path, quickstart)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="can't be read as safetensors .* damaged or cut off"):
        safetensors.read_safetensors(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "forward"),
    [
        ("net145", test_other_implementations.torch_net145),
        ("zfnet", test_other_implementations.torch_zfnet),
    ],
)
def test_pytorch_computes_the_same_with_the_state_dict(name, forward, tmp_path):
    torch = pytest.importorskip("torch")
    trained = network(name)
    torch_state.write_state_dict(tmp_path / "network.pth", trained)
    state = torch.load(tmp_path / "network.pth", weights_only=True)
    named = {key.split(".")[0] for key in state}
    weights = {layer: (state[f"{layer}.weight"], state[f"{layer}.bias"]) for layer in named}
    images = images_for(trained)
    theirs = forward(torch.nn.functional, weights)(torch_inputs(torch, trained, images))
    test_other_implementations.assert_close(logits_of(trained, images), theirs.numpy(), 1e-5)


@pytest.mark.slow
def test_torchvisions_alexnet_takes_the_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    trained = network("one_weird_trick")
    torch_state.write_state_dict(tmp_path / "alexnet.pth", trained)
    alexnet = torchvision_alexnet(torch.nn, trained).eval()
    alexnet.load_state_dict(torch.load(tmp_path / "alexnet.pth", weights_only=True))
    images = images_for(trained)
    with torch.no_grad():
        theirs = alexnet(torch_inputs(torch, trained, images)).numpy()
    test_other_implementations.assert_close(logits_of(trained, images), theirs, 1e-5)
    description = json.loads((tmp_path / "alexnet.pth.json").read_text())
    assert description["pixels"] == {"size": 228, "mean_at_crop": False, "warp": False}
    assert description["classes"] == list(trained.classes)
    assert description["network"]["network"] == "one_weird_trick"
    for kind in ("mean", "divisor"):
        np.testing.assert_array_equal(np.float32(description[kind]), getattr(trained.pixels, kind))


def torch_inputs(torch, trained, images):
    crop = trained.architecture.input_size
    start = (trained.pixels.size - crop) // 2
    crops = images[:, start : start + crop, start : start + crop]
    inputs = (np.float32(crops) - trained.pixels.mean) / trained.pixels.divisor
    return torch.tensor(inputs.transpose(0, 3, 1, 2).copy())


def torchvision_alexnet(nn, trained):
    """The module of torchvision.models.alexnet, with its names, in the widths of `trained`."""
    widths = {layer: len(kinds["bias"].ravel()) for layer, kinds in trained.parameters.items()}
    c1, c2, c3, c4, c5, f6, f7, classes = (
        widths[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    )

    class AlexNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, c1, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
                nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
                nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(),
                nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU(),
                nn.Conv2d(c4, c5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
            )  # fmt: skip
            self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
            self.classifier = nn.Sequential(
                nn.Dropout(), nn.Linear(c5 * 36, f6), nn.ReLU(),
                nn.Dropout(), nn.Linear(f6, f7), nn.ReLU(), nn.Linear(f7, classes),
            )  # fmt: skip

        def forward(self, x):
            return self.classifier(self.avgpool(self.features(x)).flatten(1))

    return AlexNet()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_any_batch_size(name):
    """In one program, as a StableHLO file has it."""
    architecture = NETWORKS[name]
    side, channels = architecture.input_size, architecture.channels
    graph = graph_of(architecture, 10)
    shapes = jax.eval_shape(lambda key: draw_parameters(architecture, 10, key), jax.random.key(0))
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, side, side, channels), np.float32)
    logits = jax.eval_shape(lambda *arguments: apply(graph, *arguments), shapes, images)
    assert logits.shape == (batch, 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "net120_2012", "cifar_11pct", "net150"])
def test_a_stablehlo_program_runs_without_this_project(name, tmp_path):
    """Also for networks that other programs have no layout for."""
    trained = network(name, mean=np.float32([100, 120, 90]))
    stablehlo.write_stablehlo(tmp_path / "network.stablehlo", trained)
    images = images_for(trained, batch=3)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import importlib.util, pathlib, jax, numpy\n"
        "from jax import export\n"
        "assert importlib.util.find_spec('alexnet_jax') is None\n"
        "data = pathlib.Path('network.stablehlo').read_bytes()\n"
        "program = jax.export.deserialize(data)\n"
        "assert program.platforms == ('cpu', 'cuda', 'tpu'), program.platforms\n"
        "numpy.save('probabilities.npy', program.call(numpy.load('images.npy')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    probabilities = np.load(tmp_path / "probabilities.npy")
    expected = softmax(logits_of(trained, images))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    description = json.loads((tmp_path / "network.stablehlo.json").read_text())
    assert description["classes"] == list(trained.classes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net137", "conv2 also sees a low-resolution copy of the image"),
        ("net150", "fc6 is dense within each tower"),
        ("cifar_13pct", "local3 has weights of its own at every position"),
    ],
)
def test_what_other_programs_have_no_layout_for_is_refused(name, reason):
    with pytest.raises(UserError, match=rf"The network {name} can't be written.*{reason}"):
        standard.check_standard(NETWORKS[name])


@pytest.mark.parametrize(
    ("write", "package"), [(onnx_model.write_onnx, "onnx"), (torch_state.write_state_dict, "torch")]
)
def test_a_missing_package_is_named(write, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"needs the library {package}, .*alexnet-jax.{package}"):
        write(tmp_path / "file", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("write", "package"),
    [
        (onnx_model.write_onnx, "onnx"),
        (safetensors.write_safetensors, "numpy"),
        (stablehlo.write_stablehlo, "jax"),
        pytest.param(torch_state.write_state_dict, "torch", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_cannot_be_written_leaves_nothing(write, package, quickstart, tmp_path):
    pytest.importorskip(package)
    if write is not stablehlo.write_stablehlo:
        with pytest.raises(UserError, match="can't be written .No such file or directory."):
            write(tmp_path / "none" / "file", quickstart)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder can't be written"):
        write(tmp_path / "folder", quickstart)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
