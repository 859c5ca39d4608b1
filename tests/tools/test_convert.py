"""python -m alexnet_jax convert: what it prints, writes and refuses; folders like a run's."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from alexnet_jax.data import images
from alexnet_jax.model.networks import Variant
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.tools import inference, load
from alexnet_jax.tools.convert import run_folder
from alexnet_jax.tools.evaluate import member
from alexnet_jax.training import checkpoint, warm_start
from alexnet_jax.weights import files, safetensors
from tests.support import caffemodel, commands, convnet2012, drawing, weighted
from tests.support import python2 as writing

ROOT = pathlib.Path(__file__).parent.parent.parent
QUIET = Terminal(speaks=False)
IMAGE = np.random.default_rng(4).uniform(90, 130, (36, 36, 3))
COLOURS = np.float32([120.5, 110.25, 99.125])
CONVENTIONS = {
    "a mean image at the crop's place": {"mean": IMAGE, "mean_at_crop": True, "warp": True},
    "its center": {"mean": IMAGE[4:32, 4:32], "divisor": 1.5},
    "means and deviations of colours": {"mean": COLOURS, "divisor": [58.395, 57.12, 57.375]},
    "means alone": {"mean": COLOURS, "divisor": 1, "warp": True},
    "neither": {"mean": 0, "divisor": 255},
}


def narrow(**pixels):
    return weighted.trained("quickstart", width=1 / 8, size=36, **pixels)


convert = functools.partial(commands.run, "convert")


def same(one, other):
    assert one.variant == other.variant
    assert one.classes == other.classes
    jax.tree.map(np.testing.assert_array_equal, one.parameters, other.parameters)
    mine, theirs = one.pixels, other.pixels
    assert (mine.size, mine.warp, mine.mean_at_crop) == (
        theirs.size, theirs.warp, theirs.mean_at_crop,
    )  # fmt: skip
    np.testing.assert_array_equal(*np.broadcast_arrays(mine.mean, theirs.mean))
    np.testing.assert_array_equal(*np.broadcast_arrays(mine.divisor, theirs.divisor))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_folder_is_opened_as_what_was_written(tmp_path, convention):
    trained = narrow(**CONVENTIONS[convention])
    run_folder.write_run_folder(tmp_path / "run", trained)
    same(load.from_run(tmp_path / "run"), trained)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(UserError, match="exists already: name another folder"):
        run_folder.write_run_folder(tmp_path / "run", trained)


def test_what_no_training_does_with_pixels_is_refused(tmp_path):
    trained = narrow(mean=IMAGE, mean_at_crop=True, divisor=[1, 2, 3])
    with pytest.raises(UserError, match="keep it as a file of weights"):
        run_folder.write_run_folder(tmp_path / "run", trained)
    assert not list(tmp_path.iterdir())


def test_training_starts_from_a_folder(tmp_path):
    trained = narrow(**CONVENTIONS["means alone"])
    run_folder.write_run_folder(tmp_path / "run", trained)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=here),
        trained.parameters,
    )
    found, where = warm_start.load_parameters(tmp_path / "run", shapes, layers=("conv1", "fc7"))
    assert where == str(tmp_path / "run" / "checkpoints" / "0")
    np.testing.assert_array_equal(found["fc7"]["kernel"], trained.parameters["fc7"]["kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_evaluate_says_of_a_folder_what_the_file_says(tmp_path, convention):
    trained = narrow(**CONVENTIONS[convention])
    run_folder.write_run_folder(tmp_path / "run", trained)
    names = []
    for split in ("train", "val"):
        for label in ("class 1", "class 4"):
            folder = tmp_path / "set" / split / label
            names += weighted.photographs(folder, 3, side=60, seed=len(names))
    choice = member.Choice(views="ten", path=str(tmp_path / "set"), batch_size=8)
    facts = checkpoint.facts_at(tmp_path / "run" / "checkpoints", 0)
    one = member.open_member(tmp_path / "run", facts, choice, QUIET)
    found = member.predict(one, 0, facts, QUIET)
    pixels = trained.pixels
    stored = np.stack([
        images.decode(images.read(name), "", pixels.size, 3, pixels.warp) for name in names[6:]
    ])  # fmt: skip
    expected = inference.log_probabilities(trained, "ten")(trained.parameters, stored)
    np.testing.assert_allclose(found.log_probabilities, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Convert what? Name one file of weights"),
        (("a", "b", "--to=c"), "Convert what? Name one file of weights"),
        (("a", "--workdir=b", "--to=c"), "Convert what?"),
        (("a",), "Convert into what? Add --to=OUT"),
        (("--workdir=a", "--mean=b", "--to=c"), "knows all itself: leave --mean out"),
        (("a", "--step=3", "--to=c"), "--step names a checkpoint"),
        (("a", "--to=no/such/folder.onnx"), "--to=no/such/folder.onnx can't be written"),
        (("a", "--to=tests"), "--to=tests exists already"),
    ],
)
def test_a_wrong_command_gets_a_sentence(arguments, message):
    out, error = convert(*arguments, code=2)
    assert message in error
    assert error.count("\n") == 1
    assert not out


@pytest.mark.slow
def test_each_source_goes_through_the_command(tmp_path):
    variant = Variant("cifar_18pct")
    state = convnet2012.checkpoint(variant.architecture())
    (tmp_path / "9.5").write_bytes(writing.dumps(state))
    mean = np.full((3072, 1), 120, np.float32)
    (tmp_path / "batches.meta").write_bytes(writing.dumps({"data_mean": mean}))
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name {label}\n" for label in range(10)))
    out, _ = convert(
        tmp_path / "9.5", f"--mean={tmp_path / 'batches.meta'}", f"--class_names={names}",
        f"--to={tmp_path / 'run'}",
    )  # fmt: skip
    assert "a checkpoint of cuda-convnet" in out
    assert "cifar_18pct, 89,578 parameters" in out
    assert "10: name 0, name 1, name 2, ..." in out
    assert "minus a mean image, the center for every crop (what the file" in out
    first = out.split("SHA-256")[1].split()[0]
    for file in ("net.safetensors", "net.onnx", "net.pth"):
        out, _ = convert(f"--workdir={tmp_path / 'run'}", f"--to={tmp_path / file}")
        assert first in out
        same(files.read_weights(tmp_path / file), load.from_run(tmp_path / "run"))
        out, _ = convert(tmp_path / file, f"--to={tmp_path / 'again.safetensors'}")
        assert first in out
        same(
            files.read_weights(tmp_path / file),
            safetensors.read_safetensors(tmp_path / "again.safetensors"),
        )
    _, error = convert(
        tmp_path / "net.safetensors", "--network=net145", f"--to={tmp_path / 'a'}", code=2
    )
    assert "tell all themselves: leave --network out" in error
    _, error = convert(names, f"--to={tmp_path / 'a'}", code=2)
    assert "holds no weights of a kind that is known here" in error
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_the_proof_is_by_the_program_that_the_file_comes_from(tmp_path):
    pytest.importorskip("cv2")
    variant = Variant("bvlc_alexnet")
    architecture = variant.architecture()
    weights = drawing.weights(architecture, 7)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel.caffemodel(architecture, weights))
    out, _ = convert(path, f"--to={tmp_path / 'net.safetensors'}")
    words = out.split("OpenCV's logits differ by up to ")[1].split()
    difference, spread = float(words[0].rstrip(";")), float(words[4])
    assert 0 < difference < 1e-4 * spread
