"""Several checkpoints as one: combined, searched and reported as NumPy and scikit-learn would."""

import itertools
import types

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss

from alexnet_jax.data import sources
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.tools.evaluate import ensemble, ensemble_run, report, submission
from alexnet_jax.tools.evaluate.member import Choice
from tests.support import evaluated

QUIET = Terminal(speaks=False)


def random_probabilities(seed, images=60, classes=8):
    values = np.random.default_rng(seed).exponential(size=(images, classes)) ** 2
    return values / values.sum(axis=1, keepdims=True)


def log32(probabilities):
    return np.log(probabilities).astype(np.float32)


def top5(probabilities, labels):
    """Images whose class is not among the five likeliest, by sorting."""
    likeliest = np.argsort(-probabilities, axis=1)[:, :5]
    return sum(
        label not in row for label, row in zip(labels.tolist(), likeliest.tolist(), strict=True)
    )


@pytest.mark.parametrize("views", ["center", pytest.param("ten", marks=pytest.mark.slow)])
def test_two_checkpoints_of_different_networks_are_averaged_as_by_hand(trained_runs, views):
    workdirs = [trained_runs / name for name in evaluated.RUNS]
    found = ensemble_run.predict_members(workdirs, ["2", "latest"], Choice(views=views), QUIET)
    combined, weights = ensemble_run.combine_members(found, (0.6, 0.2), False, QUIET)
    parts = [
        evaluated.probabilities(workdir, step, views)
        for workdir, step in zip(workdirs, (2, 3), strict=True)
    ]
    expected = 0.75 * parts[0] + 0.25 * parts[1]
    np.testing.assert_allclose(np.exp(combined), expected, rtol=1e-3, atol=1e-6)
    labels = sources.Digits("val", 32, 3).labels
    np.testing.assert_array_equal(found[1].labels, labels)
    content = report.evaluation_record(found, combined, weights, False, Choice(views=views))
    assert content["scores"]["loss"] == pytest.approx(log_loss(labels, expected), rel=1e-4)
    assert content["weights"] == pytest.approx([0.75, 0.25])
    for own, part in zip(content["members"], parts, strict=True):
        assert own["scores"]["loss"] == pytest.approx(log_loss(labels, part), rel=1e-4)


def test_a_combination_keeps_what_float32_probabilities_would_lose():
    one, other = np.float32([[-300.0, -0.1]]), np.float32([[-200.0, -0.2]])
    combined = ensemble.combine([one, other], [1, 1])
    assert combined[0, 0] == pytest.approx(-200 - np.log(2), rel=1e-6)
    np.testing.assert_array_equal(ensemble.combine([one, other], [0, 3]), other)


@pytest.mark.parametrize("seed", range(4))
def test_the_search_is_coordinate_descent_on_the_top5_error(seed):
    """Against the same rule written out, one full sort for every weight tried."""
    parts = [random_probabilities(10 * seed + member) for member in range(3)]
    labels = np.random.default_rng(seed).integers(0, 8, 60)
    rounds = []
    found = ensemble.search_weights(
        [log32(part) for part in parts], labels, lambda weights, errors: rounds.append(errors)
    )

    def errors(weights):
        return top5(sum(w * part for w, part in zip(weights, parts, strict=True)), labels)

    weights, best = [0.5] * 3, errors([0.5] * 3)
    while True:
        before = best
        for member, tried in itertools.product(range(3), np.linspace(0, 1, 21)):
            candidate = [tried if index == member else w for index, w in enumerate(weights)]
            if any(candidate) and errors(candidate) < best:
                weights, best = candidate, errors(candidate)
        if best == before:
            break
    np.testing.assert_allclose(found, weights)
    assert rounds[-1] == best <= errors([0.5] * 3)


@pytest.mark.parametrize("text", ["0.5", "1,x", "0,0", "-1,2", "nan,1", "1,2,3", "inf,1"])
def test_weights_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="expected 2 number"):
        ensemble_run.parse_member_weights(text, 2)


def test_errors_by_class_and_confused_pairs_equal_scikit_learns():
    probabilities, names = random_probabilities(3, images=500), [f"c{i}" for i in range(8)]
    truth = np.random.default_rng(3).integers(0, 7, 500)  # the last class has no images
    labels = truth.copy()
    labels[:5] = -2 - truth[:5]  # unreadable
    logs = log32(probabilities)
    means, ranks = report.score_chunks(logs, labels.astype(np.int32))
    guesses = probabilities.argmax(axis=1)
    matrix = confusion_matrix(truth[5:], guesses[5:], labels=range(8))
    lost = np.bincount(truth[:5], minlength=8)
    classes = report.class_errors(ranks, labels, names)
    assert [one["class"] for one in classes] == names[:7]
    for index, one in enumerate(classes):
        images = np.count_nonzero(truth == index)
        wrong = matrix[index].sum() - matrix[index, index] + lost[index]
        assert one["images"] == images
        assert one["top1_error"] == pytest.approx(wrong / images)
        chosen = np.flatnonzero((truth == index) & (labels >= 0))
        late = top5(probabilities[chosen], truth[chosen]) + lost[index]
        assert one["top5_error"] == pytest.approx(late / images)
    pairs = report.confused_pairs(logs, ranks, labels, names)
    found = {(one["class"], one["taken_for"]): one["images"] for one in pairs}
    assert found == {
        (names[i], names[j]): matrix[i, j] for i in range(8) for j in range(8)
        if i != j and matrix[i, j]
    }  # fmt: skip
    counts = [one["images"] for one in pairs]
    assert counts == sorted(counts, reverse=True)
    total = sum(one["images"] * one["top1_error"] for one in classes)
    assert means["top1_error"] == pytest.approx(total / 500)


class Named:
    """A source whose stored order is not that of its file names."""

    classes = tuple("abcdefg")
    names = ("c/3.jpg", "a/9.jpg", "b/1.jpg")

    def __init__(self, ilsvrc_ids):
        self.ilsvrc_ids = ilsvrc_ids

    def __len__(self):
        return len(self.names)

    def name(self, record):
        return self.names[record]


def test_a_submission_has_a_line_an_image_in_order_of_file_name(tmp_path):
    logs = log32(random_probabilities(5, images=3, classes=8))  # one output more than classes
    rows = [np.argsort(-row[:7])[:5] for row in logs]
    path = tmp_path / "submission.txt"
    said = submission.write_submission(path, Named(None), logs)
    assert "positions" in said
    lines = [[int(word) for word in line.split(" ")] for line in path.read_text().splitlines()]
    assert lines == [(rows[record] + 1).tolist() for record in (1, 2, 0)]
    ids = (40, 7, 1000, 3, 5, 6, 2)
    assert submission.write_submission(path, Named(ids), logs) == "ILSVRC2012_IDs"
    first = path.read_text().splitlines()[0]
    assert first == " ".join(str(ids[place]) for place in rows[1])


def prediction(classes="ab", labels=(0, 1, 1), outputs=2):
    source = type("Source", (), {"classes": tuple(classes), "__len__": lambda self: len(labels)})()
    member = types.SimpleNamespace(workdir="run", source=source)
    return types.SimpleNamespace(
        member=member, labels=np.asarray(labels), log_probabilities=np.zeros((3, outputs))
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": "ac"}, "the names of the classes"),
        ({"labels": (0, 1)}, r"the number of images \(3 and 2\)"),
        ({"labels": (0, 0, 1)}, "the classes of the images"),
        ({"outputs": 3}, "the number of the networks' outputs"),
    ],
)
def test_runs_that_see_other_images_are_no_ensemble(change, sentence):
    ensemble_run.check_same_images(prediction(), prediction())
    with pytest.raises(UserError, match=f"differ in {sentence}: an ensemble needs"):
        ensemble_run.check_same_images(prediction(), prediction(**change))
