"""The average of the parameters is what a run is evaluated with, saved as and used for."""

import dataclasses

import jax
import numpy as np
import pytest

from alexnet_jax.data import sources
from alexnet_jax.tools import load as tools_load
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.loop import train_and_evaluate
from tests.support import evaluated, miniature
from tests.training.test_plan import load

DECAY = 0.8


def averaging(steps):
    config = load("lenet5", "smoke")
    config.num_steps, config.optimizer.ema_decay = steps, DECAY
    config.evaluate.every_steps, config.checkpoint.every_steps = 3, 1
    config.checkpoint.keep = 10
    config.optimizer.freeze = ("conv1",)
    return config


@pytest.fixture
def trained(monkeypatch):
    """The parameters that are trained, on the host, of each step that is saved."""
    seen, save = {}, Checkpoints.save

    def spy(self, step, state, *others):
        parameters = state.parameters.items()
        seen[step] = {layer: {kind: np.float64(array) for kind, array in kinds.items()}
                      for layer, kinds in parameters}  # fmt: skip
        save(self, step, state, *others)

    monkeypatch.setattr(Checkpoints, "save", spy)
    return seen


def test_a_run_is_evaluated_and_used_as_its_average(tmp_path, trained):
    """With conv1 standing still to the bit."""
    result = train_and_evaluate(averaging(3), tmp_path)
    found = tools_load.from_run(tmp_path, "latest").parameters
    factors = {1: DECAY**2, 2: DECAY, 3: 1.0}
    for layer, kinds in found.items():
        for kind, value in kinds.items():
            terms = [factor * trained[step][layer][kind] for step, factor in factors.items()]
            expected = sum(terms) / sum(factors.values())
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(found["conv1"]["kernel"], trained[3]["conv1"]["kernel"])
    assert np.abs(found["conv2"]["kernel"] - trained[3]["conv2"]["kernel"]).max() > 1e-5

    likely = evaluated.probabilities(tmp_path, 3, "center")
    _, labels = sources.Digits("val", 28, 1).load(range(len(likely)))
    loss = -np.log(likely[np.arange(len(likely)), labels]).mean()
    assert result["validation"]["loss"] == pytest.approx(loss, rel=1e-5)


def test_an_average_starts_with_the_parameters_that_a_run_takes():
    steps = dataclasses.replace(miniature.make_steps("tiny", 1, 1), ema_decay=DECAY)
    state = steps.initial_state()
    taken = {"conv1": jax.tree.map(lambda x: x + 1, state.parameters["conv1"])}
    started = state.starting_with(taken)
    for layer, kinds in started.for_use.items():
        for kind, array in kinds.items():
            np.testing.assert_array_equal(array, started.parameters[layer][kind])
    assert not np.array_equal(started.for_use["conv1"]["bias"], state.for_use["conv1"]["bias"])


@pytest.mark.slow
def test_an_average_goes_on_after_a_restart_and_is_what_another_run_starts_with(tmp_path):
    whole = train_and_evaluate(averaging(6), tmp_path / "whole")
    train_and_evaluate(averaging(3), tmp_path / "parts")
    parts = train_and_evaluate(averaging(6), tmp_path / "parts")
    assert parts["parameters_sha256"] == whole["parameters_sha256"]
    assert parts["validation"] == whole["validation"]

    start = averaging(1)
    start.init.from_run = str(tmp_path / "whole")
    start.optimizer.learning_rate = start.optimizer.bias_learning_rate = ((0, 0.0),)
    assert (
        train_and_evaluate(start, tmp_path / "start")["parameters_sha256"]
        == (whole["parameters_sha256"])
    )
