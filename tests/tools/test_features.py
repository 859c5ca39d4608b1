"""python -m alexnet_jax features: against NumPy and PyTorch, killed, damaged, in little memory."""

import functools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest

from alexnet_jax.data import images
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.tools.features import collection, extract, files, parts
from alexnet_jax.weights import safetensors
from tests.support import commands, weighted
from tests.support.commands import ENVIRONMENT, ROOT

run = functools.partial(commands.run, "features")


@pytest.fixture(scope="module")
def network():
    return weighted.trained("quickstart", width=1 / 4)


def extracted(trained, layer, pixels, batch=4):
    """Features of all images, in batches."""
    computed = extract.compute_features(
        trained, layer, pixels.__getitem__, range(len(pixels)), batch_size=batch, num_workers=2
    )
    return np.concatenate([found for _, found, _ in computed])


def test_features_are_those_of_numpy_tower_after_tower(network):
    size = network.pixels.size
    pixels = np.random.default_rng(3).integers(0, 256, (6, size, size, 3), np.uint8)
    given = extracted(network, "fc6.dropout", pixels)
    kernel, bias = (np.float64(network.parameters["fc7"][kind]) for kind in ("kernel", "bias"))
    towers = [np.maximum(given @ kernel[tower] + bias[tower], 0) for tower in (0, 1)]
    np.testing.assert_allclose(
        extracted(network, "fc7", pixels), np.concatenate(towers, 1), rtol=1e-4, atol=1e-4
    )
    assert towers[0].std() > 0.1
    maps = extracted(network, "conv1", pixels)
    assert maps.shape[1:] == extract.shape_of(network, "conv1")
    kernel, bias = (network.parameters["conv1"][kind] for kind in ("kernel", "bias"))
    crop = network.architecture.input_size
    left = (size - crop) // 2
    views = pixels[:, left : left + crop, left : left + crop]
    inputs = (views - network.pixels.mean) / network.pixels.divisor
    side, middle = kernel.shape[1], maps.shape[1] // 2
    layer = network.architecture.layers[0]
    top = middle * layer.stride - layer.padding
    window = inputs[:, top : top + side, top : top + side]
    both = [np.einsum("nijc,ijcm->nm", window, kernel[t]) + bias[t] for t in (0, 1)]
    # Pooling comes before ReLU here, so that this is what goes into both.
    np.testing.assert_allclose(
        maps[:, middle, middle], np.concatenate(both, 1), rtol=1e-4, atol=1e-4
    )


def test_a_wrong_layer_is_answered_with_the_names(network):
    with pytest.raises(UserError, match=r"no activations 'fc9': expected one of conv1.*fc7"):
        extract.metadata_of(network, "fc9")


class Killed(BaseException):
    """As sudden as a signal."""


def pictured(network, folder, count=11):
    """Photographs, the fourth broken, as a collection."""
    named = list(map(str, weighted.photographs(folder / "class 3", count)))
    pathlib.Path(named[3]).write_bytes(b"\x89PNG\r\n")
    return collection.of_files(named, network.classes, extract.stored_of(network))


def filled(network, images, output, plan, stop=False, load=None):
    """What a command does, in parts of four."""
    shape = extract.shape_of(network, "fc6")
    images = images if load is None else collection.dataclasses.replace(images, load=load)
    with parts.opened(output, plan, len(images), 4, shape) as own, Terminal() as terminal:
        extract.fill(
            own, network, "fc6", images, batch_size=2, num_workers=2, stop_at_bad=stop,
            terminal=terminal,
        )  # fmt: skip
        return own.used(), np.concatenate(list(own.features()))


def test_what_was_cut_off_goes_on_and_a_bad_image_is_left_out(network, tmp_path, capsys):
    images, plan = pictured(network, tmp_path), {"layer": "fc6"}
    (used, left_out), undisturbed = filled(network, images, tmp_path / "a.npz", plan)
    assert (list(left_out), list(used)) == ([3], [0, 1, 2, *range(4, 11)])
    assert "image3.png could not be decoded" in capsys.readouterr().out
    assert set(images.labels) == {3}
    good = [number for number in range(11) if number != 3]
    pixels = {number: images.load(number) for number in good}
    expected = extracted(network, "fc6", np.stack([pixels[number] for number in good]), 2)
    np.testing.assert_allclose(undisturbed, expected, rtol=1e-5, atol=1e-5)
    asked = []

    def dies(number):
        asked.append(number)
        if number >= 9:
            raise Killed
        return images.load(number)

    with pytest.raises(Killed):
        filled(network, images, tmp_path / "b.npz", plan, load=dies)
    assert (tmp_path / "b.npz.parts" / "part-00000.npz").exists()
    for other in ({"layer": "fc7"}, {"layer": "fc6", "images": 3}):
        with pytest.raises(UserError, match="with other (layer|images): choose another --output"):
            filled(network, images, tmp_path / "b.npz", other)
    asked.clear()

    def counts(number):
        asked.append(number)
        return images.load(number)

    (again, _), resumed = filled(network, images, tmp_path / "b.npz", plan, load=counts)
    assert min(asked) >= 4
    np.testing.assert_array_equal(again, used)
    np.testing.assert_array_equal(resumed, undisturbed)
    assert not (tmp_path / "b.npz.parts").exists()


def test_a_bad_image_stops_if_asked_to_and_a_damaged_part_is_named(network, tmp_path):
    pictures = pictured(network, tmp_path)
    with pytest.raises(images.BadImage, match="image3.png could not be decoded"):
        filled(network, pictures, tmp_path / "a.npz", {}, stop=True)
    folder = parts.folder_of(tmp_path / "a.npz")
    (folder / "part-00001.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"part-00001.npz can't be read .* take it away and give"):
        filled(network, pictures, tmp_path / "a.npz", {})
    with (
        parts.opened(tmp_path / "a.npz", {}, 11, 4, (1,)),
        pytest.raises(UserError, match="Another command is writing"),
        parts.opened(tmp_path / "a.npz", {}, 11, 4, (1,)),
    ):
        pass
    (tmp_path / "c.npz.parts").mkdir()
    (tmp_path / "c.npz.parts" / "letters").touch()
    with (
        pytest.raises(UserError, match="holds letters and no plan.json"),
        parts.opened(tmp_path / "c.npz", {}, 11, 4, (1,)),
    ):
        pass


ABOUT = {
    "format": extract.FORMAT, "layer": "conv1", "network": "any", "shape": [2, 3, 4],
    "parameters_sha256": "", "weights": "some", "classes": ["cat", "dog"],
    "pixels": {"size": 8, "channels": 3, "warp": False}, "images": {"fingerprint": ""},
}  # fmt: skip


def written(path, labels=(1, -1, 0, 0, 1), about=ABOUT):
    """A file of five images, in three pieces."""
    names = [f"Größe {number}" for number in range(len(labels))]
    values = np.random.default_rng(2).normal(size=(len(labels), 2, 3, 4)).astype(np.float32)
    pieces = iter([values[:2], values[2:2], values[2:]])
    files.write_features(
        path,
        metadata=about,
        names=names,
        labels=np.asarray(labels, np.int32),
        shape=(2, 3, 4),
        features=pieces,
    )
    return names, values


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_files_hold_what_was_written(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    names, values = written(path)
    if suffix == ".npz":
        with np.load(path) as stored:
            assert stored["names"].tolist() == names
            np.testing.assert_array_equal(stored["features"], values)
            np.testing.assert_array_equal(stored["labels"], [1, -1, 0, 0, 1])
            assert json.loads(str(stored["about"])) == ABOUT
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        assert table["name"].to_pylist() == names
        assert table["label"].to_pylist() == [1, None, 0, 0, 1]
        found = np.asarray(table["features"].to_pylist(), np.float32)
        np.testing.assert_array_equal(found.reshape(values.shape), values)
        assert json.loads(table.schema.metadata[b"about"]) == ABOUT
    found = files.read_features(path)
    assert (found.names, found.labels.tolist(), found.metadata) == (names, [1, -1, 0, 0, 1], ABOUT)
    blocks = list(found.blocks(2))
    assert max(map(len, blocks)) <= 2
    np.testing.assert_array_equal(np.concatenate(blocks), values.reshape(5, -1))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_damaged_and_foreign_files_are_told_in_a_sentence(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    sentence = r"can't be read \(.*python -m alexnet_jax features wrote; write it anew\.$"
    with pytest.raises(UserError, match="There is no file"):
        files.read_features(path)
    written(path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=sentence):
            files.read_features(path)
    for about in ({}, ABOUT | {"format": "x"}, ABOUT | {"classes": ["cat"]}, ABOUT | {"shape": []}):
        written(path, about=about)
        with pytest.raises(UserError, match=sentence):
            files.read_features(path)
    if suffix == ".npz":
        written(path)
        changed = bytearray(whole)
        changed[whole.index(np.random.default_rng(2).normal(size=1).astype("<f4").tobytes())] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"CRC.*features wrote; write it anew"):
            list(files.read_features(path).blocks(2))
        np.savez(path, features=np.zeros((2, 3)))
        with pytest.raises(UserError, match=sentence):
            files.read_features(path)


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_no_more_than_a_piece_is_in_memory(tmp_path, suffix):
    """40 MB in pieces of one."""
    rows, pieces, width = 250, 40, 1000
    names = [str(number) for number in range(rows * pieces)]
    labels = np.full(len(names), collection.NO_LABEL, np.int32)
    noise = np.random.default_rng(4).normal(size=(rows, width)).astype(np.float32)
    noise[:, 0] = 0
    features = (noise + np.float32(piece) for piece in range(pieces))
    arrow = pytest.importorskip("pyarrow").default_memory_pool()
    before = arrow.bytes_allocated()
    tracemalloc.start()
    files.write_features(
        tmp_path / f"x{suffix}",
        metadata=ABOUT | {"shape": [width]},
        names=names,
        labels=labels,
        shape=[width],
        features=features,
    )
    sums, held = [], 0
    for block in files.read_features(tmp_path / f"x{suffix}").blocks(rows):
        sums.append(float(block[:, 0].sum()))
        held = max(held, arrow.bytes_allocated() - before)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sums) == rows * sum(range(pieces))
    assert most + held < 8e6


def test_mistakes_are_answered_before_jax_starts(tmp_path):
    for arguments, said in (
        (["x.png"], "Where to? Add --output=FILE.npz"),
        ([f"--output={tmp_path / 'none/x.npz'}", "x.png"], "can't be written"),
        ([f"--output={tmp_path / 'x.npz'}"], "No image was named"),
        ([f"--output={tmp_path / 'x.npz'}", "--split=val", "x.png"], "leave one"),
    ):
        assert said in run(*arguments, code=2)[1]
    with pytest.raises(UserError, match="end it in .npz or .parquet"):
        files.check_features_path(tmp_path / "x.txt")
    odd = os.fsdecode(b"caf\xe9.png")
    files.check_features_path(tmp_path / "x.npz", [odd])
    with pytest.raises(UserError, match="is not UTF-8, which parquet needs"):
        files.check_features_path(tmp_path / "x.parquet", ["a.png", odd])


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["fc7", "conv5.pool"])
def test_features_are_those_of_pytorch(tmp_path, layer):
    torch = pytest.importorskip(
        "torch", reason="torch is not installed: tests/requirements-peers.txt"
    )
    from tests.model.test_other_implementations import theirs

    functional = torch.nn.functional
    trained = weighted.trained("one_weird_trick", size=240, mean=[120, 110, 100])
    safetensors.write_safetensors(tmp_path / "weights.safetensors", trained)
    named = weighted.photographs(tmp_path / "class 3", 5, side=300)
    (tmp_path / "class 3/broken.png").write_bytes(named[0].read_bytes()[:200])
    output = tmp_path / "found.npz"
    said, _ = run(
        tmp_path / "class 3", f"--weights={tmp_path / 'weights.safetensors'}", "--batch_size=2",
        f"--layer={layer}", f"--output={output}",
    )  # fmt: skip
    assert "1 images that can't be read are left out" in said
    found = files.read_features(output)
    assert found.names == list(map(str, named))
    assert set(found.labels) == {3}
    weights = {
        name: tuple(torch.tensor(np.ascontiguousarray(array)) for array in arrays)
        for name, arrays in theirs(trained.architecture, trained.parameters).items()
    }
    for file, row in zip(named, np.concatenate(list(found.blocks(2))), strict=True):
        pixels = images.decode(file.read_bytes(), "", 240, 3)[8:232, 8:232].astype(np.float32)
        x = torch.tensor((pixels - [120, 110, 100]) / 40).float().permute(2, 0, 1)[None]
        for name, stride, padding in (
            ("conv1", 4, 2), ("conv2", 1, 2), ("conv3", 1, 1), ("conv4", 1, 1), ("conv5", 1, 1),
        ):  # fmt: skip
            x = functional.conv2d(x, *weights[name], stride=stride, padding=padding).relu()
            x = functional.max_pool2d(x, 3, 2) if name[-1] in "125" else x
        if layer == "fc7":
            x = x.flatten(1)
            for name in ("fc6", "fc7"):
                x = functional.linear(x, *weights[name]).relu()
            expected = x[0].numpy()
        else:
            expected = x[0].permute(1, 2, 0).reshape(-1).numpy()
        assert expected.std() > 1e-3
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_sets_are_read_without_tensorflow(prepared_sets, tmp_path):
    facts = json.loads((prepared_sets / "jpeg" / "prepared.json").read_text())
    trained = weighted.trained("quickstart", width=1 / 4, size=facts["size"])
    safetensors.write_safetensors(tmp_path / "weights.safetensors", trained)
    found = []
    for form in ("jpeg", "raw"):
        arguments = commands.words(
            "features",
            f"--path={prepared_sets / form}", "--split=train", "--layer=fc6",
            f"--weights={tmp_path / 'weights.safetensors'}", f"--output={tmp_path / form}.parquet",
        )[3:]  # fmt: skip
        code = (
            "import sys, runpy; sys.modules['tensorflow'] = sys.modules['clu'] = None; "
            f"sys.argv = ['x', *{arguments!r}]; "
            "runpy.run_module('alexnet_jax', run_name='__main__')"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env=ENVIRONMENT)
        found.append(files.read_features(tmp_path / f"{form}.parquet"))
    assert len(found[0]) == sum(facts["splits"]["train"]["shards"])
    assert found[0].names == found[1].names
    assert found[0].metadata["classes"] == facts["classes"]
    assert list(found[0].labels) == list(found[1].labels)
    assert min(found[0].labels) == 0
    load = collection.open_again(found[1].metadata["images"], found[1].names, found[1].stored)
    pixels = np.stack([load(number) for number in range(len(found[1]))])
    ours = np.concatenate(list(found[1].blocks(100)))
    np.testing.assert_allclose(ours, extracted(trained, "fc6", pixels), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_file(tmp_path):
    trained = weighted.trained("zfnet")
    safetensors.write_safetensors(tmp_path / "weights.safetensors", trained)
    weighted.photographs(tmp_path / "images", 300)
    (tmp_path / "images/image144.png").write_bytes(b"\x89PNG\r\n")
    common = (tmp_path / "images", f"--weights={tmp_path / 'weights.safetensors'}",
              "--batch_size=16", "--layer=conv1")  # fmt: skip
    run(*common, f"--output={tmp_path / 'undisturbed.npz'}")
    output, instants = tmp_path / "killed.npz", random.Random(5)
    folder = parts.folder_of(output)
    count = -(-300 // extract.part_images(extract.shape_of(trained, "conv1"), 16))
    assert count >= 6
    aims = {
        "starting": lambda: True,
        "first part": lambda: folder.exists(),
        "later part": lambda: len(list(folder.glob("part-*.npz"))) >= count // 2,
        "writing a part": lambda: list(folder.glob("part-*.partial")),
        "putting together": output.with_name("killed.npz.partial").exists,
        "tidying up": output.exists,
    }
    hit = set()
    for aim, has_come in aims.items():
        output.unlink(missing_ok=True)
        process = subprocess.Popen(
            commands.words("features", *common, f"--output={output}"), cwd=ROOT, env=ENVIRONMENT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and not has_come():
            time.sleep(0.0002)
        time.sleep(instants.uniform(0, 0.002))
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            hit.add(aim)
    assert len(hit) >= 4
    run(*common, f"--output={output}")
    assert output.read_bytes() == (tmp_path / "undisturbed.npz").read_bytes()
    assert not folder.exists()
    assert not output.with_name("killed.npz.partial").exists()
