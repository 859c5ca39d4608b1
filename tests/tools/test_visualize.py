"""The numbers that the pages of visualize draw, against other ways to find them."""

import io
import json

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from alexnet_jax.model import alexnet
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.evaluate import report
from alexnet_jax.tools.visualize import confusion, curves, figure, filters, saliency
from alexnet_jax.training import pictures
from tests.support import weighted


def pixels_of(drawn):
    """A figure as uint8 [height, width, 3]."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=figure.DOTS_PER_INCH)
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.parametrize(("towers", "channels"), [(2, 3), (1, 1)])
def test_the_figure_of_filters_holds_the_picture_pixel_by_pixel(towers, channels, tmp_path):
    shape = (towers, 5, 5, channels, 16)
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = np.broadcast_to(
        pictures.filters(kernel, 88), (*filters.picture(kernel, 88).shape[:2], 3)
    )
    found = pixels_of(
        filters.draw_filters(kernel, name="conv1", network="quickstart", tile=88, grey=False)
    )
    height, width = expected.shape[:2]
    left = next(
        x for x in range(found.shape[1] - width + 1)
        if np.array_equal(found[filters.TOP : filters.TOP + height, x : x + width], expected)
    )  # fmt: skip
    assert left + width <= found.shape[1]
    figure.write_pixels(filters.picture(kernel, 88), tmp_path / "bare.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "bare.png").convert("RGB")), expected)
    assert f"{width:,} x {height:,} pixels" in figure.written_line(tmp_path / "bare.png")
    grey = filters.picture(kernel, 88, grey=True)
    assert np.array_equal(grey, pictures.filters(kernel.sum(axis=3)[:, :, :, None], 88))


def a_run(folder, rates, errors=None):
    """A metrics.jsonl with a training record an epoch; its last line is cut short."""
    folder.mkdir()
    errors = errors or [0.9 / (epoch + 1) for epoch in range(len(rates))]
    lines = []
    for epoch, (rate, error) in enumerate(zip(rates, errors, strict=True)):
        common = {"step": 10 * epoch, "epoch": float(epoch), "top1_error": error, "loss": error}
        rate = {"learning_rate": {"weights": rate, "biases": 2 * rate}}
        lines.append(
            json.dumps(common | {"split": "train", "top5_error": error and error / 3} | rate)
        )
        if epoch % 2:
            lines.append(json.dumps(common | {"split": "val", "top5_error": error and error / 4}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 99, "ep')
    return folder


def test_curves_are_the_records_and_rates_drop_where_they_do(tmp_path):
    rates = [0.01, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    folder = a_run(tmp_path / "one", rates)
    (run,) = curves.read_curves([str(folder)])
    records = [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[:-1]
    ]
    for split in ("train", "val"):
        own = [record for record in records if record["split"] == split]
        for field in ("top1_error", "top5_error", "loss"):
            epochs, values = run.series(split, field)
            assert list(epochs) == [record["epoch"] for record in own]
            assert list(values) == [record[field] for record in own]
    assert run.rate_drops() == [(2.5, 0.001), (4.5, 0.0001)]
    falling = [0.01 * np.cos(index / 5) for index in range(1, 8)]
    (cosine,) = curves.read_curves([str(a_run(tmp_path / "two", falling))])
    assert [epoch for epoch, _ in cosine.rate_drops()] in ([], [0.5])
    left, right = curves.draw_curves([run], "top5_error").axes
    drawn = {line.get_label(): line.get_xydata() for line in left.lines}
    expected = np.column_stack(run.series("val", "top5_error")) * [1, 100]
    np.testing.assert_array_equal(drawn["one, validation"], expected)
    assert [text.get_text().strip() for text in right.texts] == ["rate 0.001", "rate 0.0001"]


def test_epochs_to_a_level_lie_between_the_records(tmp_path):
    errors = [0.8, 0.5, 0.3, None, 0.2, 0.1]
    quick = a_run(tmp_path / "quick", [0.01] * 6, errors[:3] + [0.25, 0.2, 0.1])
    slow = a_run(tmp_path / "slow", [0.01] * 6, [0.9, 0.8, 0.7, 0.6, 0.4, 0.1])
    broken = a_run(tmp_path / "broken", [0.01] * 6, errors)
    runs = curves.read_curves([str(quick), str(slow), str(broken)])
    for run, level in ((runs[0], 0.4), (runs[1], 0.25), (runs[0], 0.12)):
        epochs, values = run.series("train", "top1_error")
        expected = np.interp(level, values[::-1], epochs[::-1])
        assert curves.epochs_to_reach(epochs, values, level) == pytest.approx(expected)
    assert curves.epochs_to_reach(*runs[2].series("train", "top1_error"), 0.25) == 4
    assert curves.epochs_to_reach(*runs[1].series("train", "top1_error"), 0.05) is None
    said = curves.epochs_comparison(runs[:2], 0.4)
    assert "after 1.50 epochs\n" in said
    assert "after 4.00 epochs, 2.7 times as many" in said
    (axes,) = curves.draw_figure1(runs[:2], 0.4).axes
    assert axes.lines[0].get_linestyle() != axes.lines[2].get_linestyle()
    with pytest.raises(UserError, match=r"There is no file .*metrics.jsonl"):
        curves.read_curves([str(tmp_path)])
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="holds no measurement yet"):
        curves.read_curves([str(tmp_path)])


def test_the_gradient_of_a_logit_is_that_of_finite_differences():
    trained = weighted.trained("lenet5_28", width=1, size=32)  # smooth: no ReLU, no max-pooling
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 1), np.uint8)
    found = saliency.gradient(trained, image, 3)
    assert found.shape == (28, 28, 1)
    places = np.random.default_rng(2).integers(0, 28, (12, 2))
    graph = alexnet.graph_of(trained.architecture, 10)
    views = np.repeat(np.float32(image[2:30, 2:30])[None], 24, axis=0)
    for index, (row, column) in enumerate(places):
        views[2 * index, row, column] += 1
        views[2 * index + 1, row, column] -= 1
    inputs = (views - trained.pixels.mean) / trained.pixels.divisor
    apply = jax.jit(alexnet.apply, static_argnums=0)
    logits = np.asarray(apply(graph, trained.parameters, inputs))[:, 3]
    expected = (logits[::2] - logits[1::2]) / 2
    np.testing.assert_allclose(found[*places.T, 0], expected, atol=3e-3 * np.abs(found).max())
    assert np.abs(expected).max() > 3e-4
    coloured = np.float32([[[1, -3, 2]], [[0, 0, -1]]])
    assert saliency.saliency_map(coloured).tolist() == [[3], [1]]


def test_occlusion_is_a_loop_over_hidden_squares():
    trained = weighted.trained("lenet5_relu", width=1, size=36)
    image = np.random.default_rng(1).integers(0, 256, (36, 36, 1), np.uint8)
    told = []
    found = saliency.occlusion(
        trained, image, 6, square=5, stride=8, batch_size=7,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    view = (image[2:34, 2:34] - trained.pixels.mean) / trained.pixels.divisor
    hidden = []
    for row in (4, 12, 20, 28):
        for column in (4, 12, 20, 28):
            own = view.copy()
            own[row - 2 : row + 3, column - 2 : column + 3] = 0
            hidden.append(own)
    graph = alexnet.graph_of(trained.architecture, 10)
    apply = jax.jit(alexnet.apply, static_argnums=0)
    logits = np.asarray(apply(graph, trained.parameters, np.float32(hidden)))
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected[:, 6].reshape(4, 4), rtol=1e-4, atol=1e-7)
    assert found.std() > 0.01
    assert told == [(7, 16), (14, 16), (16, 16)]
    assert saliency.square_places(28, 6, 1).tolist() == list(range(-3, 25))


def predictions(classes, images, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images).astype(np.int32)
    scores = random.normal(size=(images, classes)).astype(np.float32)
    scores[np.arange(images), labels] += 1.5
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), labels


def matrix_of(scores, labels):
    names = [f"class {label}" for label in range(scores.shape[1])]
    truth = np.where(labels < 0, -2 - labels, labels)
    ranks = (scores > scores[np.arange(len(labels)), truth][:, None]).sum(axis=1)
    ranks[labels < 0] = scores.shape[1]
    pairs = report.confused_pairs(scores.copy(), ranks, labels, names)
    return report.confusion_matrix(pairs, ranks, labels, names)


def test_the_confusion_matrix_is_scikit_learns(tmp_path):
    scores, labels = predictions(7, 500)
    found = matrix_of(scores, labels)
    expected = confusion_matrix(labels, scores.argmax(axis=1))
    assert found["counts"] == expected.tolist()
    assert found["taken_for_others"] == [0] * 7
    unreadable = np.where(np.arange(500) < 40, -2 - labels, labels)
    expected = confusion_matrix(labels[40:], scores[40:].argmax(axis=1))
    assert matrix_of(scores, unreadable)["counts"] == expected.tolist()
    file = tmp_path / "found.json"
    whole = {"split": "val", "scores": {"images": 500, "top1_error": 0.25}, "classes": [{}] * 7}
    file.write_text(json.dumps(whole | {"confusion": found}))
    drawn = confusion.draw_confusion(confusion.read_confusion(file))
    numbers = {text.get_position(): text.get_text() for text in drawn.axes[0].texts}
    for row, column in np.argwhere(np.array(found["counts"])):
        assert numbers[column, row] == str(found["counts"][row][column])
    for text in ("{}", "no JSON", json.dumps(whole | {"confusion": found | {"counts": [[1]]}})):
        file.write_text(text)
        with pytest.raises(UserError, match="confusion matrix"):
            confusion.read_confusion(file)


def test_of_many_classes_the_most_confused_are_kept():
    scores, labels = predictions(130, 3000)
    for first, second, images in ((3, 90, 60), (17, 4, 40)):  # these are often confused
        own = np.flatnonzero(labels == first)[:images]
        scores[own, second] = scores[own].max(axis=1) + 1
    found = matrix_of(scores, labels)
    chosen = [int(name.split()[1]) for name in found["classes"]]
    assert len(chosen) <= report.MOST_CONFUSED
    assert {3, 90, 17, 4} <= set(chosen)
    assert chosen == sorted(chosen)
    whole = confusion_matrix(labels, scores.argmax(axis=1), labels=range(130))
    assert found["counts"] == whole[np.ix_(chosen, chosen)].tolist()
    rest = whole[chosen].sum(axis=1) - whole[np.ix_(chosen, chosen)].sum(axis=1)
    assert found["taken_for_others"] == rest.tolist()
