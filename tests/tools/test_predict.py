"""python -m alexnet_jax predict: what images show, against PyTorch and by hand."""

import functools
import json
import os

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data import image_files, images, synsets
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools import inference
from alexnet_jax.weights import safetensors
from tests.support import commands, weighted

predict = functools.partial(commands.run, "predict")


def test_images_are_found_and_read_in_order(tmp_path):
    weighted.photographs(tmp_path / "b", 3)
    weighted.photographs(tmp_path / "a" / "deeper", 2)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "broken.png").write_bytes(b"\x89PNG\r\n")
    files = image_files.find([str(tmp_path), str(tmp_path / "b/*.png")])
    assert [os.path.relpath(file, tmp_path) for file in files] == [
        "a/deeper/image0.png", "a/deeper/image1.png",
        "b/broken.png", "b/image0.png", "b/image1.png", "b/image2.png",
    ]  # fmt: skip
    load = image_files.loader(files, 32, 3)
    found = list(image_files.batches(load, range(len(files)), 4, workers=2))
    assert [list(ids) for ids, _, _ in found] == [[0, 1, 3], [4, 5]]
    assert [[number for number, _ in bad] for _, _, bad in found] == [[2], []]
    for ids, pixels, _ in found:
        for number, image in zip(ids, pixels, strict=True):
            data = images.read(files[number])
            assert np.array_equal(image, images.decode(data, "", 32, 3))
    with pytest.raises(UserError, match="notes stands for no image"):
        image_files.find([str(tmp_path / "a" / "notes")])


def test_ten_views_are_the_mean_of_ten_probabilities():
    trained = weighted.trained("quickstart", width=1 / 4, size=32)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = np.exp(inference.log_probabilities(trained, "ten")(trained.parameters, pixels))
    corners = [(0, 0), (0, 4), (2, 2), (4, 0), (4, 4)]
    views = [pixels[:, top : top + 28, left : left + 28] for top, left in corners]
    centre = np.zeros((2, 32, 32, 3), np.uint8)
    one = inference.log_probabilities(trained, "center")
    total = 0
    for view in [*views, *(view[:, :, ::-1] for view in views)]:
        centre[:, 2:30, 2:30] = view
        total = total + np.exp(one(trained.parameters, centre))
    np.testing.assert_allclose(found, total / 10, atol=1e-6)
    assert found.std() > 0.01


def test_synsets_have_words():
    names = synsets.ilsvrc2012()
    assert len(names) == 1000
    assert list(names) == sorted(names)
    assert synsets.words("n01440764") == "tench"
    assert synsets.words("7") == "7"
    assert len({synsets.words(number) for number in names}) >= 998  # two cranes, two maillots
    assert synsets.find_class(tuple(names), "tench") == 0
    assert synsets.find_class(("cat", "dog"), "dog") == 1
    assert synsets.find_class(("cat", "dog"), "mouse") is None


def test_help_and_mistakes_answer_with_a_sentence(tmp_path):
    (image,) = weighted.photographs(tmp_path, 1)
    assert {"--views", "--workdir"} <= set(predict("--help")[0].replace("=", " ").split())
    for arguments, said in (
        ([], "No image was named"),
        ([image], "Which network? Name a training run with --workdir=DIR or"),
        ([image, f"--weights={tmp_path / 'none'}"], "There is no file"),
        ([image, f"--json={tmp_path / 'none/x.json'}"], "can't be written"),
    ):
        assert said in predict(*arguments, code=2)[1]


@pytest.mark.slow
def test_probabilities_are_those_of_pytorch(tmp_path):
    torch = pytest.importorskip(
        "torch", reason="torch is not installed: tests/requirements-peers.txt"
    )
    from tests.model.test_other_implementations import theirs, torch_one_weird_trick

    trained = weighted.trained("one_weird_trick", size=240, mean=[120, 110, 100])
    safetensors.write_safetensors(tmp_path / "weights.safetensors", trained)
    files = weighted.photographs(tmp_path / "class 3", 5, side=300)
    (tmp_path / "class 3/broken.png").write_bytes(files[0].read_bytes()[:200])
    said, warned = predict(
        tmp_path / "class 3", f"--weights={tmp_path / 'weights.safetensors'}", "--batch_size=2",
        f"--json={tmp_path / 'found.json'}", f"--plot={tmp_path / 'found.png'}", code=2,
    )  # fmt: skip
    assert "broken.png could not be decoded" in warned
    assert "1 of 6 images can't be read" in warned
    found = json.loads((tmp_path / "found.json").read_text())
    weights = {
        layer: tuple(torch.tensor(np.ascontiguousarray(array)) for array in arrays)
        for layer, arrays in theirs(trained.architecture, trained.parameters).items()
    }
    forward = torch_one_weird_trick(torch.nn.functional, weights)
    assert [one["image"] for one in found["found"]] == list(map(str, files))
    for file, one in zip(files, found["found"], strict=True):
        pixels = images.decode(file.read_bytes(), "", 240, 3)[8:232, 8:232].astype(np.float32)
        inputs = torch.tensor((pixels - [120, 110, 100]) / 40).float().permute(2, 0, 1)[None]
        expected = forward(inputs).softmax(1).numpy()[0]
        assert one["label"] == 3
        assert [guess["label"] for guess in one["predictions"]] == list(np.argsort(-expected)[:5])
        for guess in one["predictions"]:
            assert abs(guess["probability"] - expected[guess["label"]]) < 1e-4
            assert f"{guess['probability']:6.1%}" in said
    wrong = np.mean([one["predictions"][0]["label"] != 3 for one in found["found"]])
    assert found["top1_error"] == wrong
    assert found["labelled"] == found["images"] == 5
    with Image.open(tmp_path / "found.png") as picture:
        assert min(picture.size) > 500
