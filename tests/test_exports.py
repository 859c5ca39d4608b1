"""Written files of weights against the programs that they are for.

A test is skipped where ONNX, ONNX Runtime or PyTorch is not installed.
"""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from alexnet_jax import inference, stablehlo
from alexnet_jax.errors import UserError
from alexnet_jax.model import layers
from alexnet_jax.model.layers import AcrossMapNorm, ContrastNorm, SpatialNorm
from alexnet_jax.model.network import Architecture
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.model.weighted import Convolution, Dense, Output
from alexnet_jax.weights import onnx_graph, onnx_model, safetensors, standard, torch_state
from tests import test_peers, weighted

QUICK = ("quickstart", "lenet5")
# Grey levels are divided by about 1, so that the squares in the norms are as large as in 2012.
DIVISOR = np.float32([0.8, 1.0, 1.25])


def holds(name):
    """Whether the layout of other programs can hold the network."""
    try:
        standard.check_standard(NETWORKS[name])
    except UserError:
        return False
    return True


HELD = [name for name in NETWORKS if holds(name)]
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in HELD if name not in QUICK]


def network(name, width=1 / 16, **given):
    channels = NETWORKS[name].channels
    return weighted.trained(name, width=width, **{"divisor": DIVISOR[:channels]} | given)


def images_for(trained, rows=2):
    """Stored pixels, blocks of one colour with some noise."""
    random = np.random.default_rng(3)
    size, channels = trained.pixels.size, trained.architecture.channels
    blocks = random.integers(0, 256, (rows, 4, 4, channels)).repeat(-(-size // 4), 1)
    blocks = blocks.repeat(-(-size // 4), 2)[:, :size, :size]
    noisy = blocks + random.normal(scale=20, size=blocks.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def logits_of(trained, images):
    last = trained.architecture.layers[-1].name
    return np.asarray(inference.activations_of(trained, (last,))(trained.parameters, images)[last])


def softmax(logits):
    powers = np.exp(np.float64(logits) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def assert_same(one, other):
    """The same network, weights and pixels, to the bit."""
    assert (one.variant, one.classes) == (other.variant, other.classes)
    for part in (lambda t: t.parameters, lambda t: dataclasses.asdict(t.pixels)):
        ours, theirs = (jax.tree_util.tree_leaves_with_path(part(t)) for t in (one, other))
        assert [path for path, _ in ours] == [path for path, _ in theirs]
        for (path, a), (_, b) in zip(ours, theirs, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes()), path


def run_onnx(path, images):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"images": images})


@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_onnx_runtime_agrees_and_the_file_reads_back(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    trained, path = network(name), tmp_path / "network.onnx"
    onnx_model.write(path, trained)
    onnx.checker.check_model(str(path), full_check=True)
    images = images_for(trained)
    logits, probabilities = run_onnx(path, images)
    test_peers.assert_close(logits_of(trained, images), logits, 1e-5)
    np.testing.assert_allclose(probabilities, softmax(logits), atol=1e-5)
    one, _ = run_onnx(path, images[:1])  # another number of rows
    test_peers.assert_close(one, logits[:1], 1e-5)
    assert_same(onnx_model.read(path), trained)


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
    onnx_model.write(path, trained)
    images = images_for(trained)
    test_peers.assert_close(logits_of(trained, images), run_onnx(path, images)[0], 1e-5)
    assert_same(onnx_model.read(path), trained)


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
            AcrossMapNorm(n=3, k=1, alpha=0.4, beta=0.75, across_towers=True), layers.Exchange(),
            layers.AveragePool(3, 2), AcrossMapNorm(n=3, k=1, alpha=0.4, beta=0.5),
            Convolution("conv3", 8, size=3, padding=2), layers.MaxPool(5, 4), layers.Exchange(),
            Dense("fc4", 12), layers.ReLU(), Output("fc5"),
        ),
    )  # fmt: skip
    monkeypatch.setitem(NETWORKS, "odd", odd)
    trained = weighted.trained("odd", width=1, divisor=100)
    images = images_for(trained, rows=3)
    onnx_model.write(tmp_path / "odd.onnx", trained)
    logits, _ = run_onnx(tmp_path / "odd.onnx", images)
    test_peers.assert_close(logits_of(trained, images), logits, 1e-5)


def test_a_norm_that_onnx_does_not_have_is_refused():
    even = Architecture("even", 8, 3, 1, (AcrossMapNorm(4, 2, 1, 0.75), Output("fc")))
    with pytest.raises(UserError, match="ONNX has no norm over an even number of maps, 4"):
        onnx_graph.build(even, {}, weighted.trained("quickstart").pixels)


@pytest.mark.slow
def test_net_145_in_full_size_as_onnx(tmp_path):
    pytest.importorskip("onnx")
    trained = weighted.trained("net145", classes=1000, width=1, size=256)
    images = images_for(trained)
    onnx_model.write(tmp_path / "net145.onnx", trained)
    logits, probabilities = run_onnx(tmp_path / "net145.onnx", images)
    ours = logits_of(trained, images)
    np.testing.assert_allclose(ours, logits, atol=1e-4)
    best = np.argsort(-ours)[:, :5]
    np.testing.assert_array_equal(best, np.argsort(-logits)[:, :5])
    np.testing.assert_array_equal(best, np.argsort(-probabilities)[:, :5])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "forward"),
    [("net145", test_peers.torch_net145), ("zfnet", test_peers.torch_zfnet)],
)
def test_pytorch_computes_the_same_with_the_state_dict(name, forward, tmp_path):
    torch = pytest.importorskip("torch")
    trained = network(name)
    torch_state.write(tmp_path / "network.pth", trained)
    state = torch.load(tmp_path / "network.pth", weights_only=True)
    named = {key.split(".")[0] for key in state}
    weights = {layer: (state[f"{layer}.weight"], state[f"{layer}.bias"]) for layer in named}
    images = images_for(trained)
    theirs = forward(torch.nn.functional, weights)(torch_inputs(torch, trained, images))
    test_peers.assert_close(logits_of(trained, images), theirs.numpy(), 1e-5)


@pytest.mark.slow
def test_torchvisions_alexnet_takes_the_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    trained = network("one_weird_trick")
    torch_state.write(tmp_path / "alexnet.pth", trained)
    alexnet = torchvision_alexnet(torch.nn, trained).eval()
    alexnet.load_state_dict(torch.load(tmp_path / "alexnet.pth", weights_only=True))
    images = images_for(trained)
    with torch.no_grad():
        theirs = alexnet(torch_inputs(torch, trained, images)).numpy()
    test_peers.assert_close(logits_of(trained, images), theirs, 1e-5)
    about = json.loads((tmp_path / "alexnet.pth.json").read_text())
    assert about["pixels"] == {"size": 228, "mean_at_crop": False, "warp": False}
    assert about["classes"] == list(trained.classes)
    assert about["network"]["network"] == "one_weird_trick"
    for kind in ("mean", "divisor"):
        np.testing.assert_array_equal(np.float32(about[kind]), getattr(trained.pixels, kind))


def torch_inputs(torch, trained, images):
    crop = trained.architecture.input_size
    start = (trained.pixels.size - crop) // 2
    views = images[:, start : start + crop, start : start + crop]
    inputs = (np.float32(views) - trained.pixels.mean) / trained.pixels.divisor
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "net120_2012", "cifar_11pct", "net150"])
def test_a_stablehlo_program_runs_without_this_project(name, tmp_path):
    """Also for networks that other programs have no layout for."""
    trained = network(name, mean=np.float32([100, 120, 90]))
    stablehlo.write(tmp_path / "network.stablehlo", trained)
    images = images_for(trained, rows=3)
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
    found = np.load(tmp_path / "probabilities.npy")
    expected = softmax(logits_of(trained, images))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)
    about = json.loads((tmp_path / "network.stablehlo.json").read_text())
    assert about["classes"] == list(trained.classes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net137", "conv2 also sees a low-resolution copy of the image"),
        ("net150", "fc6 is dense within each tower"),
        ("net146_2011", "fc8 divides its classes over the towers"),
        ("cifar_13pct", "local3 has weights of its own at every position"),
    ],
)
def test_what_other_programs_have_no_layout_for_is_refused(name, reason):
    with pytest.raises(UserError, match=rf"The network {name} can't be written.*{reason}"):
        standard.check_standard(NETWORKS[name])
    assert name not in HELD


@pytest.mark.parametrize(
    ("write", "package"), [(onnx_model.write, "onnx"), (torch_state.write, "torch")]
)
def test_a_missing_package_is_named(write, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"needs the package {package}, .*: pip install {package}"):
        write(tmp_path / "file", None)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def quickstart():
    return network("quickstart", width=1 / 8)


@pytest.mark.parametrize(
    ("module", "package"),
    [
        (onnx_model, "onnx"),
        (safetensors, "numpy"),
        (stablehlo, "jax"),
        pytest.param(torch_state, "torch", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_cannot_be_written_leaves_nothing(module, package, quickstart, tmp_path):
    pytest.importorskip(package)
    if module is not stablehlo:
        with pytest.raises(UserError, match="can't be written .No such file or directory."):
            module.write(tmp_path / "none" / "file", quickstart)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder can't be written"):
        module.write(tmp_path / "folder", quickstart)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_an_onnx_file_has_a_largest_size(quickstart, monkeypatch, tmp_path):
    pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_model, "LARGEST", 1000)
    with pytest.raises(UserError, match="an ONNX file holds 2 GB: keep the network as safetensors"):
        onnx_model.write(tmp_path / "file.onnx", quickstart)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_onnx_file_has_its_sentence(quickstart, tmp_path):
    onnx, path = pytest.importorskip("onnx"), tmp_path / "network.onnx"
    onnx_model.write(path, quickstart)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="can't be read as ONNX"):
        onnx_model.read(path)
    model = onnx.load_model_from_string(whole)
    (fc6,) = (index for index, array in enumerate(model.graph.initializer)
              if array.name == "fc6.weight")  # fmt: skip
    del model.graph.initializer[fc6]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"holds no fc6\.weight: convert the weights anew"):
        onnx_model.read(path)
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="is not a file of weights of this program"):
        onnx_model.read(path)
