"""Caffe's files: OpenCV's reader and ours give the same logits from the same bytes."""

import numpy as np
import pytest

from alexnet_jax.model.networks import Variant
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import files
from alexnet_jax.weights.mean_image import read_mean
from alexnet_jax.weights.user_hints import UserHints
from tests.support import caffemodel, drawing

BGR = np.float32([104.00698793, 116.66876762, 122.67891434])


def write(folder, variant, generation="layers", name="", num_classes=drawing.CLASSES):
    architecture = variant.architecture()
    weights = drawing.weights(architecture, num_classes)
    path = folder / "file"
    path.write_bytes(caffemodel.caffemodel(architecture, weights, generation, name))
    return path, weights


def opencv(path, architecture, num_classes, image):
    """OpenCV's logits of an RGB image, which it gets as BGR."""
    cv2 = pytest.importorskip("cv2")
    net = cv2.dnn.readNetFromCaffe(
        np.frombuffer(caffemodel.prototxt(architecture, num_classes), np.uint8),
        np.frombuffer(path.read_bytes(), np.uint8),
    )
    net.setInput(np.ascontiguousarray(image[..., ::-1].transpose(0, 3, 1, 2)))
    return net.forward()


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["layer", "layers", "oldest"])
@pytest.mark.parametrize("name", ["bvlc_alexnet", "caffenet"])
def test_opencv_gives_the_same_logits_for_each_generation(tmp_path, name, generation):
    variant = Variant(name, width=1 / 8)
    architecture = variant.architecture()
    path, weights = write(tmp_path, variant, generation)
    trained = files.read_weights(path, UserHints(variant))
    image = drawing.image(architecture)
    if generation == "oldest":  # which OpenCV does not read
        path.write_bytes(caffemodel.caffemodel(architecture, weights, "layer"))
    theirs = opencv(path, architecture, drawing.CLASSES, image)
    drawing.assert_close(drawing.logits_of(trained, image), theirs)


@pytest.mark.slow
def test_a_full_size_file_is_read_as_opencv_reads_it(tmp_path):
    path, _ = write(tmp_path, Variant("caffenet"), "layer", "CaffeNet", 1000)
    trained = files.read_weights(path)
    assert trained.variant == Variant("caffenet")
    image = drawing.image(trained.architecture)
    theirs = opencv(path, trained.architecture, 1000, image)
    drawing.assert_close(drawing.logits_of(trained, image), theirs)


@pytest.mark.parametrize("generation", ["layer", "layers", "oldest"])
def test_every_number_is_where_it_belongs(tmp_path, generation):
    variant = Variant("bvlc_alexnet", width=1 / 48)
    path, weights = write(tmp_path, variant, generation)
    trained = files.read_weights(path, UserHints(variant))
    kernel, bias = weights["conv1"]
    parameters = trained.parameters["conv1"]
    assert parameters["kernel"].shape == (2, 11, 11, 3, 1)
    for tower in range(2):
        np.testing.assert_array_equal(  # red is the last of Caffe's channels
            parameters["kernel"][tower, 2, 7, 0, 0], kernel[tower, 2, 2, 7]
        )
    np.testing.assert_array_equal(parameters["bias"].ravel(), bias)
    pixels = trained.pixels
    np.testing.assert_array_equal(pixels.mean, BGR[::-1])
    assert (pixels.size, pixels.warp, pixels.mean_at_crop, pixels.divisor) == (256, True, False, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "caffenet"])
def test_the_order_of_norm_and_pooling_decides_the_network(tmp_path, name):
    variant = Variant(name)
    path, weights = write(tmp_path, variant, num_classes=3)
    assert files.read_weights(path).variant == variant
    bare = caffemodel.weights_only({layer: ("", *arrays) for layer, arrays in weights.items()})
    path.write_bytes(bare)
    with pytest.raises(UserError, match="may be any of bvlc_alexnet, caffenet: name .* --network"):
        files.read_weights(path)
    network_name = {"bvlc_alexnet": "AlexNet", "caffenet": "CaffeNet"}[name]
    path.write_bytes(bytes([10, len(network_name)]) + network_name.encode() + bare)
    assert files.read_weights(path).variant == variant


def test_a_mean_image_counts_at_the_crops_place(tmp_path):
    variant = Variant("caffenet", width=1 / 48)
    path, _ = write(tmp_path, variant)
    mean = np.random.default_rng(3).uniform(90, 130, (3, 256, 256))
    for dtype in (np.float32, np.float64):
        file = tmp_path / "mean.binaryproto"
        file.write_bytes(caffemodel.binaryproto(mean.astype(dtype)))
        pixels = files.read_weights(path, UserHints(variant, file)).pixels
        np.testing.assert_array_equal(pixels.mean[5, 9], np.float32(mean[::-1, 5, 9]))
        assert pixels.mean_at_crop


@pytest.mark.parametrize(
    ("array", "bgr", "first"),
    [(np.arange(3.0), True, [2, 1, 0]), (np.arange(3.0), False, [0, 1, 2]),
     (np.arange(48.0).reshape(4, 4, 3), True, [0, 1, 2]),
     (np.arange(48.0).reshape(3, 4, 4), True, [32, 16, 0]),
     (np.arange(48.0).reshape(1, 3, 4, 4), False, [0, 16, 32]),
     (np.arange(48.0).reshape(48, 1), False, [0, 16, 32])],
)  # fmt: skip
def test_the_shape_of_a_mean_decides_its_layout(tmp_path, array, bgr, first):
    np.save(tmp_path / "mean.npy", array)
    mean = read_mean(tmp_path / "mean.npy", bgr=bgr)
    np.testing.assert_array_equal(mean.reshape(-1, 3)[0], first)


@pytest.mark.parametrize(
    ("data", "message"),
    [(None, "can't be read"), (b"nothing", "is no mean of images"), (b"\x93NUMPY", "NumPy's npy"),
     (caffemodel.binaryproto(np.zeros((3, 8, 8), np.float32)), "sees 227 x 227 pixels of 3"),
     (caffemodel.binaryproto(np.zeros((2, 7), np.float32)),
      "expected finite numbers, one a channel"),
     (b"\x80\x02]q\x00.", "holds no data_mean")],
)  # fmt: skip
def test_what_is_no_mean_is_refused(tmp_path, data, message):
    variant = Variant("caffenet", width=1 / 48)
    path, _ = write(tmp_path, variant)
    if data is not None:
        (tmp_path / "mean").write_bytes(data)
    with pytest.raises(UserError, match=message):
        files.read_weights(path, UserHints(variant, tmp_path / "mean"))


def test_wrong_files_are_refused(tmp_path):
    variant = Variant("caffenet", width=1 / 48)
    path, weights = write(tmp_path, variant)
    data = path.read_bytes()
    with pytest.raises(UserError, match="none that is known here: name"):
        files.read_weights(path)
    with pytest.raises(UserError, match="holds weights of the shape .* for conv1, but caffenet"):
        files.read_weights(path, UserHints(Variant("caffenet")))
    with pytest.raises(UserError, match="holds the layers conv1, .* but cifar_18pct has conv1"):
        files.read_weights(path, UserHints(Variant("cifar_18pct")))
    with pytest.raises(UserError, match="knows 10 classes, but 2 names were given"):
        files.read_weights(path, UserHints(variant, classes=("cat", "dog")))
    path.write_bytes(data[:-100])
    with pytest.raises(UserError, match="begins as Caffe's caffemodel, but is cut short"):
        files.read_weights(path, UserHints(variant))
    path.write_bytes(caffemodel.caffemodel(variant.architecture(), {}))
    with pytest.raises(UserError, match="describes a network of Caffe without its weights"):
        files.read_weights(path, UserHints(variant))
    short = {"conv1": (*weights["conv1"], weights["conv1"][1])}
    path.write_bytes(caffemodel.caffemodel(variant.architecture(), short))
    with pytest.raises(UserError, match="conv1 has 3 array"):
        files.read_weights(path, UserHints(variant))
