"""The library: what `import alexnet_jax` offers, against PyTorch and NumPy on the same weights."""

import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from PIL import Image

import alexnet_jax as ax
from alexnet_jax.tools import inference
from alexnet_jax.weights import safetensors
from tests.support import commands, reference, weighted

SIZES = [63, 224, 227, 512]


def test_what_is_listed_is_there_and_nothing_heavy_is_imported_before_it_is_used():
    code = (
        "import sys, alexnet_jax as ax\n"
        "assert not {'jax', 'numpy', 'flax', 'tensorflow'} & set(sys.modules)\n"
        "for name in ax.__all__: getattr(ax, name)\n"
        "assert set(ax.__all__) <= set(dir(ax))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=commands.ROOT, check=True)
    assert "net145" in ax.networks()
    with pytest.raises(AttributeError, match="no attribute 'alexnet'"):
        ax.alexnet  # noqa: B018


def test_five_lines_work_beside_a_configs_folder_of_another_project(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise ImportError('another project')\n")
    (image,) = weighted.photographs(tmp_path, 1)
    image.rename(tmp_path / "cat.jpg")  # what a file holds is told by its content
    weights_file(tmp_path)
    section = (commands.ROOT / "README.md").read_text().partition("## As a library")[2]
    code = "\n".join(
        re.findall(r"^    ((?:import|net =|print|features|model).*)$", section, re.M)[:5]
    )
    code += "\nprint({name: x.shape for name, x in features.items()}, type(model).__name__)\n"
    environment = commands.ENVIRONMENT | {"PYTHONPATH": str(commands.ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    guess, shapes = done.stdout.splitlines()
    assert guess.startswith("Guess(label=")
    assert shapes == "{'conv1': (1, 55, 55, 8), 'fc7': (1, 342)} AlexNet"


def weights_file(folder):
    """A narrow bvlc_alexnet as alexnet.safetensors."""
    file = pathlib.Path(folder, "alexnet.safetensors")
    safetensors.write_safetensors(file, weighted.trained("bvlc_alexnet"))
    return file


def torch_features(trained, images):
    """conv1 to conv5, fc6, fc7 and logits of torchvision's network, from the same weights."""
    import torch
    from torch.nn import functional as F

    def tensor(layer, kind):
        return torch.from_numpy(np.array(trained.parameters[layer][kind]))

    def conv(x, name, stride=1, padding=0):
        kernel = tensor(name, "kernel")[0].permute(3, 2, 0, 1)
        return F.relu(F.conv2d(x, kernel, tensor(name, "bias")[0], stride, padding))

    pool = lambda x: F.max_pool2d(x, 3, 2)  # noqa: E731
    found = {}
    x = (images - torch.tensor(trained.pixels.mean)) / torch.tensor(trained.pixels.divisor)
    x = found["conv1"] = conv(x.permute(0, 3, 1, 2), "conv1", 4, 2)
    x = found["conv2"] = conv(pool(x), "conv2", 1, 2)
    x = found["conv3"] = conv(pool(x), "conv3", 1, 1)
    x = found["conv4"] = conv(x, "conv4", 1, 1)
    x = found["conv5"] = conv(x, "conv5", 1, 1)
    x = F.adaptive_avg_pool2d(pool(x), (6, 6)).permute(0, 2, 3, 1).flatten(1)
    x = found["fc6"] = F.relu(x @ tensor("fc6", "kernel")[0] + tensor("fc6", "bias")[0])
    x = found["fc7"] = F.relu(x @ tensor("fc7", "kernel")[0] + tensor("fc7", "bias")[0])
    found["fc8"] = x @ tensor("fc8", "kernel")[0] + tensor("fc8", "bias")
    return {
        name: values.permute(0, 2, 3, 1) if values.ndim == 4 else values
        for name, values in found.items()
    }


def assert_close(ours, theirs, bound):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) < bound * np.linalg.norm(theirs)


@pytest.mark.parametrize(
    "side", [pytest.param(side, marks=[pytest.mark.slow] * (side in (224, 512))) for side in SIZES]
)
def test_features_and_their_gradients_at_any_size_equal_pytorchs(side):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    mean, divisor = [123.0, 117.0, 104.0], [58.0, 57.0, 57.5]
    trained = weighted.trained("one_weird_trick", width=1 / 8, mean=mean, divisor=divisor)
    net = ax.Pretrained(trained)
    images = np.random.default_rng(1).uniform(0, 255, (2, side, side, 3)).astype(np.float32)
    theirs_images = torch.from_numpy(images).requires_grad_()
    theirs = torch_features(trained, theirs_images)
    ours = net.features(images, tuple(theirs))
    for name, values in theirs.items():
        assert_close(ours[name], values.detach(), 1e-5)
    assert_close(net.logits(images), theirs["fc8"].detach(), 1e-5)
    sum((values**2).mean() for values in theirs.values()).backward()

    def loss(images):
        return sum((x**2).mean() for x in net.features(images, tuple(theirs)).values())

    assert_close(jax.grad(loss)(jnp.asarray(images)), theirs_images.grad, 1e-5)


@pytest.mark.parametrize(
    "side", [pytest.param(side, marks=[pytest.mark.slow] * (side > 63)) for side in SIZES]
)
def test_features_of_net145_at_any_size_equal_numpys(side):
    trained = weighted.trained("net145", width=1 / 24)
    images = np.random.default_rng(1).uniform(0, 255, (1, side, side, 3))
    mean = trained.pixels.mean if side == 224 else trained.pixels.mean.mean(axis=(0, 1))
    inputs = (images - mean) / trained.pixels.divisor
    parameters = jax.tree.map(np.float64, trained.parameters)
    theirs = reference.net145(parameters, inputs, keep=0.5)
    net = ax.Pretrained(trained)
    for name, values in net.features(images, tuple(theirs)).items():
        assert_close(values, theirs[name], 1e-5)
    direction = np.random.default_rng(2).normal(size=images.shape)
    ends = [
        reference.net145(parameters, inputs + s * direction / trained.pixels.divisor, 0.5)["fc8"]
        for s in (1e-4, -1e-4)
    ]
    slope = np.float64(jax.grad(lambda x: net.logits(x)[0, 3])(jnp.float32(images)))
    expected = (ends[0] - ends[1])[0, 3] / 2e-4
    np.testing.assert_allclose((slope * direction).sum(), expected, rtol=1e-3)


def test_files_and_arrays_are_predicted_as_the_command_does(tmp_path):
    trained = weighted.trained("quickstart", width=1)
    net = ax.Pretrained(trained)
    image_files = weighted.photographs(tmp_path, 3)
    arrays = [np.asarray(Image.open(file)) for file in image_files]
    by_file = net.predict(image_files, views="ten", top=3)
    assert [len(guesses) for guesses in by_file] == [3, 3, 3]
    forward = inference.log_probabilities(trained, "ten")
    for guesses, array, file in zip(by_file, arrays, image_files, strict=True):
        (of_array,) = net.predict(array, views="ten", top=3)
        for ours, theirs in zip(of_array, guesses, strict=True):
            assert ours.name == theirs.name
            assert ours.probability == pytest.approx(theirs.probability, rel=1e-5)
        likely = np.exp(np.asarray(forward(trained.parameters, net._resized(file))))[0]
        assert guesses[0].label == likely.argmax()
        assert guesses[0].probability == pytest.approx(likely.max(), rel=1e-5)
    np.testing.assert_allclose(net.logits(image_files[1]), net.logits(image_files)[1:2], rtol=1e-4)


def test_a_run_is_loaded_and_its_model_is_trained_further(trained_runs, caplog):
    net = ax.load(trained_runs / "quickstart", step=2)
    assert not caplog.records
    assert net.classes == tuple("0123456789")
    images = 255 * np.random.default_rng(0).random((4, 28, 28, 3), np.float32)
    model = net.model()
    inputs = net.inputs(images)
    model.eval()
    np.testing.assert_allclose(model(inputs), net.logits(images), rtol=1e-4, atol=1e-5)
    model.train()
    optimizer = nnx.Optimizer(model, optax.sgd(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            labels = jnp.arange(4)
            return optax.softmax_cross_entropy_with_integer_labels(model(inputs), labels).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    assert np.isfinite([float(step(model, optimizer)) for _ in range(2)]).all()
    assert not np.array_equal(model.fc8.bias[...], net.parameters["fc8"]["bias"])


def test_a_model_may_have_a_last_layer_for_classes_of_ones_own():
    net = ax.Pretrained(weighted.trained("quickstart", width=1))
    assert repr(net).endswith(": quickstart, 10 classes)")
    model, other = net.model(3), net.model(3, seed=1)
    assert model(np.zeros((2, 28, 28, 3), np.float32)).shape == (2, 3)
    assert not np.array_equal(model.fc8.kernel[...], other.fc8.kernel[...])
    for layer in ("conv1", "fc7"):
        expected = net.parameters[layer]["kernel"]
        np.testing.assert_array_equal(getattr(model, layer).kernel[...], expected)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda net: net.features(np.ones((28, 28, 3)), ("conv9",)), "has no activations 'conv9'"),
        (lambda net: net.logits(np.ones((2, 28))), "Images of the shape .2, 28. were given"),
        (lambda net: net.logits(np.ones((28, 28, 1))), r"expected \[batch, height, width, 3\]"),
        (lambda net: net.predict("nowhere.png"), "The image nowhere.png can't be read"),
        (lambda net: net.model(0), "num_classes=0 must be at least 1"),
        (lambda net: ax.load("nowhere.pth"), "nowhere.pth"),
        (lambda net: ax.load(commands.ROOT), "is a folder: name a file of weights"),
        (lambda net: ax.AlexNet("net14", rngs=nnx.Rngs(0)), "no network 'net14'"),
    ],
)
def test_a_mistake_raises_one_sentence_and_prints_nothing(call, sentence, capfd):
    net = ax.Pretrained(weighted.trained("quickstart", width=1))
    with pytest.raises(ax.UserError, match=sentence):
        call(net)
    assert capfd.readouterr() == ("", "")


def test_too_small_images_are_refused():
    net = ax.Pretrained(weighted.trained("one_weird_trick", width=1 / 32))
    with pytest.raises(ax.UserError, match="62 x 62 pixels are too small for the network"):
        net.features(np.ones((62, 62, 3)))
    local = ax.Pretrained(weighted.trained("cifar_13pct", width=1 / 8))
    with pytest.raises(ax.UserError, match="The layer local3 of cifar_13pct has weights for 24"):
        local.logits(np.ones((30, 30, 3)))
