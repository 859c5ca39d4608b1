"""python -m alexnet_jax neighbours: against scikit-learn and by hand."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.features import files
from alexnet_jax.tools.neighbours import queries as asked
from alexnet_jax.tools.neighbours import report, search
from tests.support import weighted
from tests.support.commands import ROOT, run
from tests.tools.test_features import ABOUT


def blocks_of(rows):
    """As Features.blocks, in pieces of uneven size."""

    def blocks(count):
        start = 0
        while start < len(rows):
            size = 1 + (start * 7) % count
            yield rows[start : start + size]
            start += size

    return blocks


def found(queries, rows, k, own=None):
    own = np.full(len(queries), search.NOBODY) if own is None else own
    return search.nearest_neighbours(
        blocks_of(queries), own, blocks_of(rows), width=rows.shape[1], k=k
    )


@pytest.fixture(params=["large blocks", "small blocks"])
def _blocks(request, monkeypatch):
    if request.param == "small blocks":
        for name, size in (("QUERY_BYTES", 3000), ("BLOCK_BYTES", 2000), ("PAIR_BYTES", 500)):
            monkeypatch.setattr(search, name, size)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("offset", [0, 1000])
def test_neighbours_are_those_of_scikit_learn(offset):
    """Far from zero, too, where lengths and products of vectors cancel."""
    random = np.random.default_rng(0)
    rows = (random.normal(size=(300, 20)) + offset).astype(np.float32)
    queries = (random.normal(size=(70, 20)) + offset).astype(np.float32)
    distances, numbers = found(queries, rows, 7)
    # Rows of one dimension after the other, so that nothing cancels.
    exact = NearestNeighbors(n_neighbors=7, algorithm="kd_tree").fit(np.float64(rows))
    expected, others = exact.kneighbors(np.float64(queries))
    np.testing.assert_array_equal(numbers, others)
    np.testing.assert_allclose(distances, expected, rtol=1e-12)


@pytest.mark.usefixtures("_blocks")
def test_the_first_of_equals_comes_first_and_a_query_is_left_out():
    random = np.random.default_rng(1)
    rows = random.integers(0, 2, (200, 6)).astype(np.float32) + 0.1
    own = np.arange(0, 200, 3)
    queries = rows[own]
    squares = ((queries[:, None].astype(np.float64) - rows) ** 2).sum(axis=2)
    for left_out in (False, True):
        if left_out:
            squares[np.arange(len(own)), own] = np.inf
        order = np.argsort(squares, axis=1, kind="stable")[:, :9]
        distances, numbers = found(queries, rows, 9, own if left_out else None)
        np.testing.assert_array_equal(numbers, order)
        np.testing.assert_allclose(
            distances, np.sqrt(np.take_along_axis(squares, order, 1)), rtol=1e-12
        )
    assert (distances == 0).any()
    assert not (numbers == own[:, None]).any()


def test_numbers_that_are_not_finite_are_refused():
    rows = np.ones((5, 2), np.float32)
    rows[3, 1] = np.nan
    with pytest.raises(UserError, match="not finite"):
        found(rows[:2], rows, 2)


def features(path, labels, values, folder, **about):
    """Features in memory as if from a file; their names are FOLDER/0.png ..."""
    given = ABOUT | {"images": {"files_named_from": str(folder)}, "shape": [2]} | about
    names = [f"{number}.png" for number in range(len(labels))]
    values = np.asarray(values, np.float32)
    return files.Features(path, given, names, np.asarray(labels, np.int32), 2, blocks_of(values))


def test_the_report_counts_neighbours_of_the_same_class(tmp_path):
    rows = features("set", [0, 0, 1, -1], [[0, 0], [0, 1], [5, 0], [5, 1]], tmp_path)
    queries = features("queries", [0, 1, -1], [[0, 0], [5, 0.4], [1, 1]], tmp_path)
    distances, numbers = found(np.float32([[0, 0], [5, 0.4], [1, 1]]),
                               np.float32([[0, 0], [0, 1], [5, 0], [5, 1]]), 2)  # fmt: skip
    record = report.neighbours_record(rows, queries, distances, numbers, left_out=False)
    assert record["labelled_queries"] == 2
    assert record["nearest_of_same_class"] == 1
    assert record["neighbours_of_same_class"] == 3 / 4
    assert record["found"][1] == {
        "image": "1.png", "class": "dog",
        "neighbours": [{"image": "2.png", "class": "dog", "distance": pytest.approx(0.4)},
                       {"image": "3.png", "class": None, "distance": pytest.approx(0.6)}],
    }  # fmt: skip
    said = report.neighbours_table(record, report.evenly_spaced(3, 2))
    assert "0.png  (cat)\n           0  0.png  (cat)\n           1  1.png  (cat)\n2.png" in said
    assert "of 2 whose class is known, 100.0% have" in said
    assert report.evenly_spaced(5, 3) == [0, 2, 4]
    assert report.evenly_spaced(2, 8) == [0, 1]
    assert asked.self_indices(queries, rows).tolist() == [0, 1, 2]
    elsewhere = features("queries", [0], [[0, 0]], tmp_path / "elsewhere")
    assert asked.self_indices(elsewhere, rows).tolist() == [search.NOBODY]


def test_features_of_another_layer_or_network_are_refused(tmp_path):
    rows = features("set.npz", [0], [[0, 0]], tmp_path)
    asked.check_comparable(rows, rows.metadata, "same.npz")
    for change, said in (
        ({"layer": "fc6"}, "other.npz is of another layer than set.npz, which is conv1 of some"),
        ({"parameters_sha256": "1"}, "other.npz is of a network with other weights"),
        ({"pixels": {"size": 9}}, "cut or scaled in another way"),
    ):
        with pytest.raises(UserError, match=said):
            asked.check_comparable(rows, rows.metadata | change, "other.npz")


def test_mistakes_are_answered_before_jax_starts(tmp_path):
    for arguments, said in (
        ([], "Among which images? Add --features=FILE"),
        (["--features=x.npz"], "Whose neighbours?"),
        (["--features=x.npz", "--queries=y.npz", "x.png"], "one of the two"),
        (["--features=x.npz", "--queries=y.npz", "--workdir=x"], "--workdir is for images"),
    ):
        assert said in run("neighbours", *arguments, code=2)[1]


@pytest.mark.slow
def test_from_images_to_json_and_picture(tmp_path):
    from alexnet_jax.weights import safetensors

    trained = weighted.trained("quickstart", width=1 / 4)
    weights = f"--weights={tmp_path / 'weights.safetensors'}"
    safetensors.write_safetensors(tmp_path / "weights.safetensors", trained)
    trained = dataclasses.replace(trained, name="other", parameters=weighted.trained(
        "quickstart", width=1 / 4, seed=1).parameters)  # fmt: skip
    safetensors.write_safetensors(tmp_path / "other.safetensors", trained)
    for label in range(3):
        weighted.photographs(tmp_path / "set" / f"class {label}", 5, seed=label)
    for suffix in ("npz", "parquet"):
        run("features", tmp_path / "set", weights, f"--output={tmp_path / 'set'}.{suffix}")
    given = (f"--features={tmp_path / 'set.npz'}", f"--json={tmp_path / 'found.json'}")
    run("neighbours", *given, f"--queries={tmp_path / 'set.npz'}", "--k=14",
        f"--plot={tmp_path / 'found.png'}", "--rows=2")  # fmt: skip
    record = json.loads((tmp_path / "found.json").read_text())
    rows = np.load(tmp_path / "set.npz")
    names, values = rows["names"].tolist(), rows["features"].astype(np.float64)
    for number, one in enumerate(record["found"]):
        distances = np.sqrt(((values - values[number]) ** 2).sum(axis=1))
        order = [other for other in np.argsort(distances, kind="stable") if other != number]
        assert [other["image"] for other in one["neighbours"]] == [names[o] for o in order]
        np.testing.assert_allclose([o["distance"] for o in one["neighbours"]], distances[order])
        assert one["class"] == f"class {number // 5}"
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.width > 2500
        assert picture.height > 300

    # The same images as queries, named from elsewhere, and with the other kind of file.
    wanted = os.path.relpath(tmp_path / "set" / "class 1", ROOT)
    said, _ = run("neighbours", *given, wanted, weights, "--k=1")
    alone = json.loads((tmp_path / "found.json").read_text())
    assert [one["neighbours"][0]["distance"] for one in alone["found"]] == pytest.approx(
        [0] * 5, abs=1e-2
    )
    assert "100.0% have a nearest neighbour" in said
    run("neighbours", *given, wanted, weights, "--k=3", "--leave_out_self")
    alone = json.loads((tmp_path / "found.json").read_text())
    for number, one in enumerate(alone["found"]):
        assert [other["image"] for other in one["neighbours"]] == [
            other["image"] for other in record["found"][5 + number]["neighbours"][:3]
        ]
    said, _ = run("neighbours", f"--features={tmp_path / 'set.parquet'}",
                  f"--queries={tmp_path / 'set.npz'}", "--k=2")  # fmt: skip
    assert "100.0% have a nearest neighbour" in said

    # Mistakes that only the files show.
    other = f"--weights={tmp_path / 'other.safetensors'}"
    assert "with other weights" in run("neighbours", *given, wanted, other, code=2)[1]
    run("features", tmp_path / "set", weights, "--layer=fc6", f"--output={tmp_path / 'fc6.npz'}")
    queries = f"--queries={tmp_path / 'fc6.npz'}"
    assert "is of another layer" in run("neighbours", *given, queries, code=2)[1]
    queries = f"--queries={tmp_path / 'set.npz'}"
    assert "more than the 14 that" in run("neighbours", *given, queries, "--k=15", code=2)[1]
    shutil.rmtree(tmp_path / "set")
    plot = f"--plot={tmp_path / 'gone.png'}"
    assert "can't be read" in run("neighbours", *given, queries, plot, code=2)[1]
    assert not (tmp_path / "gone.png").exists()
