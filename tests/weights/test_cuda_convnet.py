"""Checkpoints of cuda-convnet: read as PyTorch runs them, and never run."""

import pickle

import numpy as np
import pytest

from alexnet_jax.model.networks import Variant
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import files, python2
from alexnet_jax.weights.user_hints import UserHints
from tests.support import convnet2012, drawing
from tests.support import python2 as writing

NARROW = {"net145": 1 / 24, "cifar_18pct": 1 / 4, "quickstart": 1 / 8}


def written(folder, name, width=1.0, **changes):
    """A checkpoint and its mean image in files, with the layers."""
    variant = Variant(name, width=width, **changes)
    architecture = variant.architecture()
    state = convnet2012.checkpoint(architecture)
    path, mean = folder / "91.1252", folder / "batches.meta"
    options = {"op": writing.Options(options={"gpu": writing.Options(value=[0, 1])})}
    path.write_bytes(writing.dumps(state | options))
    size = 32 if architecture.input_size <= 32 else 256
    image = np.float32(np.random.default_rng(5).uniform(90, 130, (3 * size**2, 1)))
    mean.write_bytes(writing.dumps({"data_mean": image, "label_names": ["cat", "dog"]}))
    return path, UserHints(variant, mean), state["model_state"]["layers"]


def agree(path, hints, layers):
    pytest.importorskip("torch")
    trained = files.read_weights(path, hints)
    side = trained.architecture.input_size
    image = np.float32(np.random.default_rng(6).normal(scale=40, size=(1, side, side, 3)))
    theirs = convnet2012.logits(layers, image.transpose(0, 3, 1, 2))
    assert theirs.std() > 0.1
    np.testing.assert_allclose(drawing.logits_of(trained, image), theirs, atol=1e-4 * theirs.std())
    return trained


def test_a_checkpoint_has_the_logits_of_pytorch(tmp_path):
    path, hints, layers = written(tmp_path, "quickstart", 1 / 4)
    trained = agree(path, hints, layers)
    assert trained.variant.network == "quickstart"
    assert trained.classes == tuple(map(str, range(10)))
    mean = python2.load_pickle(hints.mean.read_bytes(), "")["data_mean"].value.reshape(3, 32, 32)
    np.testing.assert_array_equal(trained.pixels.mean, mean.transpose(1, 2, 0)[2:30, 2:30])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width"),
    [("net145", 1 / 24), ("net145_half", 1 / 24), ("net120_2012", 1 / 16), ("net137", 1 / 16),
     ("net146", 1 / 24), ("net146_2011", 1 / 24), ("net147", 1 / 24), ("net148", 1 / 24),
     ("net150", 1 / 24),
     ("cifar_18pct", 1.0), ("cifar_80sec", 1.0), ("cifar_13pct", 0.5), ("cifar_11pct", 1.0),
     ("figure1_relu", 1.0)],
)  # fmt: skip
def test_every_network_of_2012_has_the_logits_of_pytorch(tmp_path, name, width):
    agree(*written(tmp_path, name, width))


@pytest.mark.slow
def test_the_network_of_a_full_size_checkpoint_is_found(tmp_path):
    path, hints, layers = written(tmp_path, "net145")
    trained = agree(path, UserHints(mean=hints.mean), layers)
    assert trained.variant == Variant("net145")


def test_the_network_of_a_small_checkpoint_is_found(tmp_path):
    path, hints, _ = written(tmp_path, "cifar_18pct")
    assert files.read_weights(path, UserHints(mean=hints.mean)).variant == Variant("cifar_18pct")
    assert files.read_weights(tmp_path, UserHints(mean=hints.mean)).variant.network == "cifar_18pct"


def test_layers_in_a_list_as_in_cuda_convnet_1_are_read(tmp_path):
    path, hints, layers = written(tmp_path, "cifar_18pct")
    names = list(layers)
    listed = [layer | {"inputs": [names.index(name) for name in layer.get("inputs", [])]}
              for layer in layers.values()]  # fmt: skip
    path.with_name("1.1").write_bytes(writing.dumps({"model_state": {"layers": listed}}))
    by_name, by_number = (
        files.read_weights(path, hints),
        files.read_weights(path.with_name("1.1"), hints),
    )
    for layer, parts in by_name.parameters.items():
        for kind, array in parts.items():
            np.testing.assert_array_equal(array, by_number.parameters[layer][kind])


def test_the_writer_of_these_tests_writes_what_numpy_reads():
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    data = writing.dumps({"a": [array, array], "b": (1, 2.5, None, True, "text")})
    theirs = pickle.loads(data, encoding="latin1")
    ours = python2.load_pickle(data, "file")
    np.testing.assert_array_equal(theirs["a"][0], array)
    np.testing.assert_array_equal(ours["a"][0].value, array)
    assert ours["a"][0] is ours["a"][1]
    assert theirs["b"] == ours["b"] == (1, 2.5, None, True, "text")


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def malicious(marker):
    """Pickles that would make the file `marker`."""
    import os

    system = pickle.dumps(Runs(os.system, f"touch {marker}"), 2)
    yield "os.system", system
    yield "eval", pickle.dumps(Runs(eval, f"open({str(marker)!r}, 'w')"), 2)
    yield "nested", pickle.dumps({"model_state": {"layers": [1, [Runs(os.system, "x")]]}}, 0)
    yield "protocol 0", f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()
    yield "protocol 4", pickle.dumps(Runs(os.system, f"touch {marker}"), 4)
    yield "numpy's loader", b"\x80\x02cnumpy\nload\nU\x01x\x85R."
    yield "a dotted name", b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile_\x93."
    yield "getattr", b"\x80\x02c__builtin__\ngetattr\ncnumpy\nndarray\nU\x06tofile\x86R."
    yield "an instance", b"(ios\nsystem\n."


def test_a_pickle_that_would_run_something_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "was run"
    for name, data in malicious(marker):
        path = tmp_path / "91.1"
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"asks Python for \w+\.[\w.]+: only arrays") as error:
            files.read_weights(path)
        assert "nothing of it was run" in str(error.value), name
        assert not marker.exists(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers["conv2a"].update(weights=[np.zeros((5, 5), np.float32)]),
         r"conv2a, our conv2, has weights \[5, 5\] instead of"),
        (lambda layers: layers["rnorm1b"].update(minDiv=1.0),
         r"conv2b, our conv2, comes after cmrnorm \(5, 2e-05, 0.75, 1.0\), .* instead of"),
        (lambda layers: layers["conv3a"].update(inputs=["poolMaxPool2a"] * 2),
         "conv3a, our conv3, sees other towers"),
        (lambda layers: layers["conv1a"].update(stride=[4]), "has size, stride and padding"),
        (lambda layers: layers["conv1a"].pop("biases"), "expected each to have a name"),
        (lambda layers: layers["conv1a"].update(inputs=["conv1a"]), "expected each to have a name"),
        (lambda layers: layers["conv1a"].update(biases=layers["fc10"]["biases"]),
         "has 10 biases instead of"),
    ],
)  # fmt: skip
def test_another_network_is_refused_with_its_first_difference(tmp_path, change, message):
    path, hints, layers = written(tmp_path, "quickstart", 1 / 4)
    change(layers)
    path.write_bytes(writing.dumps({"model_state": {"layers": layers}}))
    with pytest.raises(UserError, match=message):
        files.read_weights(path, hints)


def test_what_is_missing_is_asked_for(tmp_path):
    path, hints, _ = written(tmp_path, "quickstart", 1 / 4)
    with pytest.raises(UserError, match="does not hold the mean image .* --mean=FILE"):
        files.read_weights(path, UserHints(hints.variant))
    with pytest.raises(UserError, match="none that is known here: name .* --network=NAME"):
        files.read_weights(path, UserHints(mean=hints.mean))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="is cut short or damaged"):
        files.read_weights(path, hints)
    path.write_bytes(writing.dumps([1, 2]))
    with pytest.raises(UserError, match="no checkpoint of cuda-convnet"):
        files.read_weights(path, hints)
