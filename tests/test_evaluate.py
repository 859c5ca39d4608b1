"""Evaluation counts each image once, and right, whatever the batch and the mesh."""

import jax
import numpy as np
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from alexnet_jax.data import sources
from alexnet_jax.evaluate.split import Evaluator
from alexnet_jax.model import network
from alexnet_jax.parallel import mesh as meshes
from tests import miniature


@pytest.mark.parametrize(("data", "model", "batch"), [(1, 1, 50), (4, 1, 64), (2, 2, 128)])
def test_errors_of_the_digits_equal_scikit_learns(data, model, batch):
    steps = miniature.make_steps("quickstart", data, model)
    preprocessing = miniature.preprocessing_of("quickstart")
    source = sources.Digits("val", 32, 3)
    parameters = jax.tree.map(lambda p: 3 * p, steps.initial_state().parameters)
    ours = Evaluator(
        steps.evaluation(),
        meshes.put_replicated(steps.mesh, preprocessing),
        source,
        batch,
        steps.mesh,
        workers=2,
        ahead=2,
    ).measure(parameters)
    images, labels = source.load(range(len(source)))
    graph = network.graph_of(miniature.NARROW["quickstart"], 10)
    inputs = images[:, 2:30, 2:30].astype(np.float32) - preprocessing.mean
    logits = network.apply(graph, jax.device_get(parameters), inputs)
    probabilities = np.array(jax.nn.softmax(logits), np.float64)
    assert ours["images"] == len(source) == 359
    for k, name in ((1, "top1_error"), (5, "top5_error")):
        expected = 1 - top_k_accuracy_score(labels, probabilities, k=k, labels=range(10))
        assert ours[name] == pytest.approx(expected, abs=1e-9)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert ours["loss"] == pytest.approx(log_loss(labels, probabilities), rel=1e-4)
