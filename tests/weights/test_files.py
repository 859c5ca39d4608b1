"""Files of PyTorch, safetensors and ONNX, and what holds no weights: each gets its sentence."""

import io
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from alexnet_jax.model.networks import Variant
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import files, state_dict
from alexnet_jax.weights.user_hints import UserHints
from tests.support import drawing

NARROW = Variant("one_weird_trick", width=1 / 16)


def alexnet(torch, weights):
    """torchvision.models.AlexNet of any width by hand, with its names."""
    nn = torch.nn

    def conv(name, **keywords):
        filters, channels, size, _ = weights[name][0].shape
        return nn.Conv2d(channels, filters, size, **keywords)

    def dense(name):
        return nn.Linear(*weights[name][0].shape[::-1])

    model = nn.Module()
    model.features = nn.Sequential(
        conv("conv1", stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        conv("conv2", padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        conv("conv3", padding=1), nn.ReLU(), conv("conv4", padding=1), nn.ReLU(),
        conv("conv5", padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    model.classifier = nn.Sequential(
        nn.Dropout(), dense("fc6"), nn.ReLU(), nn.Dropout(), dense("fc7"), nn.ReLU(), dense("fc8")
    )
    for module, (kernel, bias) in zip(
        [m for m in model.modules() if hasattr(m, "weight")], weights.values(), strict=True
    ):
        module.weight.data, module.bias.data = torch.tensor(kernel), torch.tensor(bias)
    model.forward = lambda x: model.classifier(model.features(x).flatten(1))
    return model.eval()


def state_of(weights, names=None):
    """{name.weight, name.bias} as safetensors would hold them."""
    names = names or weights
    return {
        f"{name}.{kind}": array
        for name, arrays in zip(names, weights.values(), strict=True)
        for kind, array in zip(("weight", "bias"), arrays, strict=True)
    }


@pytest.mark.parametrize(
    "variant", [NARROW, pytest.param(Variant("one_weird_trick"), marks=pytest.mark.slow)]
)
def test_torchvisions_alexnet_gives_the_same_logits(tmp_path, variant):
    torch = pytest.importorskip("torch")
    weights = drawing.weights(variant.architecture())
    model, path = alexnet(torch, weights), tmp_path / "alexnet"
    torch.save(model.state_dict(), path)
    hints = UserHints(None if variant.width == 1 else variant)
    trained = files.read_weights(path, hints)
    image = drawing.image(variant.architecture())
    with torch.no_grad():
        theirs = model(torch.tensor(image.transpose(0, 3, 1, 2).copy())).numpy()
    drawing.assert_close(drawing.logits_of(trained, image), theirs)
    np.testing.assert_allclose(trained.pixels.mean, [123.675, 116.28, 103.53], rtol=1e-6)
    np.testing.assert_allclose(trained.pixels.divisor, [58.395, 57.12, 57.375], rtol=1e-6)
    assert (trained.pixels.size, trained.pixels.warp) == (256, False)


def test_each_form_of_a_state_dict_is_the_same_network(tmp_path):
    torch = pytest.importorskip("torch")
    weights = drawing.weights(NARROW.architecture())
    tensors = alexnet(torch, weights).state_dict()
    forms = {
        "zip": lambda path: torch.save(tensors, path),
        "before zip": lambda path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
        "training": lambda path: torch.save({"epoch": 3, "state_dict": tensors}, path),
        "parallel": lambda path: torch.save({f"module.{n}": t for n, t in tensors.items()}, path),
        "safetensors": lambda path: safetensors.numpy.save_file(
            state_of(weights, state_dict.TORCHVISION), path
        ),
        "by layer": lambda path: safetensors.numpy.save_file(state_of(weights), path),
    }
    for name, save in forms.items():
        save(tmp_path / "file")
        trained = files.read_weights(tmp_path / "file", UserHints(NARROW))
        for layer, (kernel, bias) in weights.items():
            arrays = trained.parameters[layer]
            assert np.isclose(arrays["kernel"].sum(), kernel.sum(), rtol=1e-3), name
            np.testing.assert_array_equal(arrays["bias"].ravel(), bias)


def test_a_network_by_its_layers_names_asks_for_what_is_missing(tmp_path):
    variant, path = Variant("lenet5"), tmp_path / "file"
    safetensors.numpy.save_file(state_of(drawing.weights(variant.architecture())), path)
    with pytest.raises(UserError, match="may be any of lenet5, lenet5_relu.*: name .* --network"):
        files.read_weights(path)
    with pytest.raises(UserError, match="does not hold the mean image that lenet5 subtracts"):
        files.read_weights(path, UserHints(variant))
    np.save(tmp_path / "mean.npy", np.float32(33))
    trained = files.read_weights(path, UserHints(variant, tmp_path / "mean.npy"))
    np.testing.assert_array_equal(trained.pixels.mean, [33])
    assert trained.pixels.size == 32


def zoo(onnx, weights):
    """bvlcalexnet of ONNX's model zoo for 227 pixels, of these weights, up to the logits."""
    folder = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"
    graph = onnx.load(folder / "light_bvlc_alexnet.onnx").graph
    nodes = [node for node in graph.node if node.op_type not in ("ConstantOfShape", "Softmax")]
    stored = [onnx.numpy_helper.from_array(np.int64([1, -1]), "OC2_DUMMY_1")]
    for name, arrays in weights.items():
        for kind, array in zip("wb", arrays, strict=True):
            stored.append(onnx.numpy_helper.from_array(array, f"{name}_{kind}_0"))
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "bvlc_alexnet",
        [onnx.helper.make_tensor_value_info("data_0", kind, [1, 3, 227, 227])],
        [onnx.helper.make_tensor_value_info("r24", kind, None)], stored,
    )  # fmt: skip
    opset = [onnx.helper.make_opsetid("", 9)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=4)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1 / 8, 1])
def test_the_model_zoos_alexnet_gives_the_same_logits(tmp_path, width):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    variant, path = Variant("bvlc_alexnet", width=width), tmp_path / "file"
    model = zoo(onnx, drawing.weights(variant.architecture()))
    path.write_bytes(model.SerializeToString())
    trained = files.read_weights(path, UserHints(None if width == 1 else variant))
    assert trained.variant == variant
    image = drawing.image(variant.architecture())
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    bgr = np.ascontiguousarray(image[..., ::-1].transpose(0, 3, 1, 2))
    (theirs,) = session.run(None, {"data_0": bgr})
    drawing.assert_close(drawing.logits_of(trained, image), theirs)


def test_onnx_without_its_weights_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"
    with pytest.raises(UserError, match="does not hold the weights conv1_w_0, but computes them"):
        files.read_weights(folder / "light_bvlc_alexnet.onnx")
    with pytest.raises(UserError, match="conv|is no AlexNet|known here|does not hold"):
        files.read_weights(folder / "light_squeezenet.onnx")
    variant = Variant("bvlc_alexnet", width=1 / 48)
    data = zoo(onnx, drawing.weights(variant.architecture())).SerializeToString()
    (tmp_path / "file").write_bytes(data[:-50])
    with pytest.raises(UserError, match="begins as ONNX, but is cut short"):
        files.read_weights(tmp_path / "file", UserHints(variant))


def packed(*names):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"1")
    return data.getvalue()


def picture(kind):
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty: fetch it again"),
        (b"\n<!DOCTYPE html><html><head><title>404", "is a web page, not weights"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a pointer of Git LFS"),
        (picture("JPEG"), "is a picture"),
        (picture("PNG"), "is a picture"),
        (b"\x89HDF\r\n\x1a\n" + bytes(8), "is an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(20), "is packed by gzip: unpack it"),
        (bytes(257) + b"ustar" + bytes(300), "is a tar archive: unpack it"),
        (packed("readme.txt"), "is a zip archive without weights"),
        (packed("archive/data.pkl")[:-9], "that is cut short or damaged: fetch it again"),
        (b"\x40" + bytes(7) + b'{"a":' + bytes(9), "can't be read as safetensors .* damaged"),
        (b"hello, these are no weights at all", "holds no weights of a kind that is known here"),
        (bytes(range(256)) * 9, "holds no weights of a kind that is known here"),
        (pickle.dumps({"a": 1}), "no checkpoint of cuda-convnet"),
    ],
)
def test_what_holds_no_weights_gets_a_sentence(tmp_path, data, message):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        files.read_weights(tmp_path / "file")
    assert str(error.value).startswith(str(tmp_path / "file"))


def test_a_missing_file_and_a_folder_get_a_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no file .*: expected one of weights"):
        files.read_weights(tmp_path / "file")
    with pytest.raises(UserError, match="is a folder: name a file of weights, or .* --workdir"):
        files.read_weights(tmp_path)


class Runs:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.marker}",)


def test_a_file_of_pytorch_that_would_run_something_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    for zipped in (True, False):
        torch.save({"a": Runs(tmp_path / "was run")}, tmp_path / "file",
                   _use_new_zipfile_serialization=zipped)  # fmt: skip
        with pytest.raises(UserError, match="holds more than tensors, which would run"):
            files.read_weights(tmp_path / "file")
        assert not (tmp_path / "was run").exists()


def test_other_state_dicts_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path, weights = tmp_path / "file", drawing.weights(NARROW.architecture())
    for data, message in (
        (torch.zeros(3), "holds no state dict"),
        ({"fc.weight": torch.zeros(3, 3)}, r"holds no AlexNet \(fc.bias\): expected a weight"),
        ({}, "holds no AlexNet"),
        (alexnet(torch, weights).state_dict(), "none that is known here: name .* --network"),
    ):
        torch.save(data, path)
        with pytest.raises(UserError, match=message):
            files.read_weights(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="is cut short or damaged"):
        files.read_weights(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "torch", None)
        path.write_bytes(data)
        with pytest.raises(
            UserError,
            match="needs the library torch, which is not installed: pip install .alexnet-jax.torch",
        ):
            files.read_weights(path)
