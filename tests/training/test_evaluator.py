"""Evaluation counts each image once, and right, whatever the batch, the mesh and the views."""

import jax
import numpy as np
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from alexnet_jax.data import augment, sources, stream
from alexnet_jax.data.images import BadImage
from alexnet_jax.model import alexnet
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.training import metrics
from alexnet_jax.training.evaluation import Evaluator
from tests.support import miniature
from tests.support.evaluated import places_of, view


class Some:
    """The first digits alone, some of them unreadable."""

    def __init__(self, records, unreadable=()):
        self.digits = sources.Digits("val", 32, 3)
        self.classes, self.name = self.digits.classes, self.digits.name
        self.labels, self.size, self.channels = self.digits.labels[:records], 32, 3
        self.unreadable = list(unreadable)

    def __len__(self):
        return len(self.labels)

    def load(self, ids, out=None):
        if np.isin(ids, self.unreadable).any():
            raise BadImage("unreadable")
        return self.digits.load(ids, out)


def evaluator_of(steps, preprocessing, source, batch, views="center"):
    return Evaluator(
        steps.evaluation(views),
        meshes.put_replicated(steps.mesh, preprocessing),
        source,
        batch,
        steps.mesh,
        num_workers=2,
        prefetch=2,
        warn=print,
        count_bad_as_wrong=True,
    )


@pytest.mark.parametrize(("data", "model", "batch"), [(1, 1, 50), (4, 1, 64), (2, 2, 128)])
def test_errors_of_the_digits_equal_scikit_learns(data, model, batch):
    steps = miniature.make_steps("tiny", data, model)
    preprocessing = miniature.preprocessing_of("tiny")
    source = sources.Digits("val", 32, 3)
    parameters = jax.tree.map(lambda p: 3 * p, steps.initial_state().parameters)
    ours = evaluator_of(steps, preprocessing, source, batch).measure(parameters)
    images, labels = source.load(range(len(source)))
    graph = alexnet.graph_of(miniature.NARROW["tiny"], 10)
    inputs = images[:, 2:30, 2:30].astype(np.float32) - preprocessing.mean
    logits = miniature.compiled(graph)(jax.device_get(parameters), inputs)
    probabilities = np.array(jax.nn.softmax(logits), np.float64)
    assert ours["images"] == len(source) == 359
    for k, name in ((1, "top1_error"), (5, "top5_error")):
        expected = 1 - top_k_accuracy_score(labels, probabilities, k=k, labels=range(10))
        assert ours[name] == pytest.approx(expected, abs=1e-9)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert ours["loss"] == pytest.approx(log_loss(labels, probabilities), rel=1e-4)


@pytest.mark.parametrize(("views", "count"), [("center", 1), ("ten", 10), ("all", 2178)])
def test_views_lie_where_the_paper_says(views, count):
    places = augment.crop_positions(views, 256, 224).tolist()
    assert len(places) == count
    assert sorted(map(tuple, places)) == sorted(places_of(views, 256, 224))


@pytest.mark.parametrize(
    ("views", "data", "model", "mean_at_crop"),
    [("ten", 1, 1, True), ("ten", 2, 2, False), ("all", 2, 2, True), ("all", 1, 1, False)],
)
def test_probabilities_are_the_mean_over_views_made_by_hand(views, data, model, mean_at_crop):
    """Ten digits in batches of eight, so that the second one is padded."""
    steps = miniature.make_steps("tiny", data, model, mean_at_crop=mean_at_crop)
    mean = np.random.default_rng(2).uniform(60, 160, (32, 32, 3)).astype(np.float32)
    centre = mean[2:30, 2:30]
    preprocessing = miniature.preprocessing_of("tiny")._replace(
        mean=mean if mean_at_crop else centre, divisor=np.float32([7.0, 8.0, 9.0])
    )
    parameters = jax.tree.map(lambda p: 3 * p, steps.initial_state().parameters)
    source = Some(10)
    evaluator = evaluator_of(steps, preprocessing, source, 8, views)
    heard = []
    means, log_probabilities, labels = evaluator.predict(parameters, lambda *n: heard.append(n))

    images, truth = source.load(range(10))
    graph, host = alexnet.graph_of(steps.architecture, 10), jax.device_get(parameters)
    apply = jax.jit(lambda inputs: jax.nn.softmax(alexnet.apply(graph, host, inputs)))
    parts = []
    for place in places_of(views, 32, 28):
        own = view(mean[None], *place, 28) if mean_at_crop else centre
        parts.append(np.float64(apply((view(images, *place, 28) - own) / preprocessing.divisor)))
    expected = np.mean(parts, axis=0)
    np.testing.assert_array_equal(labels, truth)
    np.testing.assert_allclose(np.exp(log_probabilities), expected, rtol=1e-3, atol=1e-6)
    assert heard == [(8, 10), (10, 10)]
    assert means["images"] == 10
    assert means["loss"] == pytest.approx(-np.log(expected[range(10), truth]).mean(), rel=1e-3)
    assert means["top1_error"] == np.mean(expected.argmax(axis=1) != truth)


def test_an_unreadable_image_counts_as_wrong_and_as_unlikely_as_by_chance():
    steps = miniature.make_steps("tiny", 1, 1)
    preprocessing = miniature.preprocessing_of("tiny")
    parameters = steps.initial_state().parameters
    whole = evaluator_of(steps, preprocessing, Some(10), 8)
    broken = evaluator_of(steps, preprocessing, Some(10, unreadable=[2, 9]), 8)
    _, predicted, labels = whole.predict(parameters, lambda *n: None)
    means, _, seen = broken.predict(parameters, lambda *n: None)
    np.testing.assert_array_equal(metrics.true_labels(seen), labels)
    read = [row for row in range(10) if row not in (2, 9)]
    np.testing.assert_array_equal(np.flatnonzero(seen < 0), [2, 9])
    own = predicted[read, labels[read]][:, None]
    loss = (-own.sum() + 2 * np.log(10)) / 10
    better = (predicted[read] > own).sum(axis=1)
    assert means["images"] == 10
    assert means["loss"] == pytest.approx(loss, rel=1e-5)
    assert means["top1_error"] == pytest.approx((np.count_nonzero(better >= 1) + 2) / 10)
    assert means["top5_error"] == pytest.approx((np.count_nonzero(better >= 5) + 2) / 10)


def test_a_split_that_is_not_counted_whole_is_a_fault(monkeypatch):
    whole = stream.evaluation_batches

    def one_less(*arguments, **options):
        for batch in whole(*arguments, **options):
            labels = np.where(np.arange(8) == 3, stream.PADDING_LABEL, batch.labels)
            yield batch._replace(labels=labels.astype(np.int32))

    monkeypatch.setattr(stream, "evaluation_batches", one_less)
    steps = miniature.make_steps("tiny", 1, 1)
    evaluator = evaluator_of(steps, miniature.preprocessing_of("tiny"), Some(10), 8)
    with pytest.raises(RuntimeError, match="9 images of a split of 10"):
        evaluator.measure(steps.initial_state().parameters)


@pytest.mark.parametrize(("records", "asked", "ends"), [(8, 0, True), (9, 1, False)])
def test_it_stops_between_batches_but_not_after_the_last(records, asked, ends):
    steps = miniature.make_steps("tiny", 1, 1)
    evaluator = evaluator_of(steps, miniature.preprocessing_of("tiny"), Some(records), 8)
    calls = []
    means = evaluator.measure(steps.initial_state().parameters, lambda: not calls.append(1))
    assert (len(calls), means is not None) == (asked, ends)
