"""A step whose loss or gradient is no number is found on all devices, and can be skipped."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.support import miniature

NEARLY_INFINITE = 3.4e38
UNLIKELY = 9  # two images of this class in a batch give an infinite loss, see `unlikely`


def unlikely(bias):
    """The output's bias with which one image of a class costs just less than float32 has."""
    return np.where(np.arange(len(bias)) == UNLIKELY, -NEARLY_INFINITE, bias).astype(np.float32)


@functools.cache
def skipping(data, model, split_dense):
    """Steps that skip, and their training step on a batch with these labels."""
    architecture = miniature.NARROW["quickstart"].without_dropout()
    steps = miniature.make_steps(
        "quickstart", data, model, architecture=architecture, split_dense=split_dense
    )
    steps = dataclasses.replace(steps, skip_bad_steps=True, ema_decay=0.5)
    preprocessing, train = miniature.plain_preprocessing(steps), steps.training()

    def step_on(state, labels):
        images, _ = miniature.batch_of("quickstart", sum(labels))
        batch = miniature.put(steps, images, np.int32(labels))
        return train(state, *batch, preprocessing)[0]

    return steps, step_on


def changed(state, **arrays):
    """The state with other parameters, by LAYER_KIND."""
    parameters = {layer: dict(kinds) for layer, kinds in state.parameters.items()}
    for name, value in arrays.items():
        layer, kind = name.split("_")
        parameters[layer][kind] = jax.device_put(value, parameters[layer][kind].sharding)
    return state._replace(parameters=parameters)


def counted_on(state, steps):
    """The state as if so many more steps had been counted, and nothing else had happened."""

    def count(leaf):
        return leaf + steps if leaf.dtype == np.int32 else leaf

    return state._replace(step=state.step + steps,
                          optimizer_state=jax.tree.map(count, state.optimizer_state))  # fmt: skip


def on_host(state):
    return jax.tree.map(np.array, state)


def assert_equal(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def everywhere(array):
    """The value that all devices have."""
    values = {int(shard.data) for shard in array.addressable_shards}
    assert len(values) == 1
    return values.pop()


LAYOUTS = [
    pytest.param((1, 1, False), marks=pytest.mark.slow),
    (2, 2, False),
    pytest.param((4, 1, True), marks=pytest.mark.slow),  # hybrid
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_with_an_infinite_loss_changes_nothing_but_the_counts(layout):
    """Steps 4, 5, 6 of a schedule that falls at 5; the middle one has two bad records."""
    steps, step_on = skipping(*layout)
    start = counted_on(steps.initial_state(), 3)
    start = changed(start, fc8_bias=unlikely(start.parameters["fc8"]["bias"]))
    good, last = (0, 1, 2, 3), (4, 5, 6, UNLIKELY)
    before = step_on(start, good)
    kept = on_host(before)
    expected = step_on(counted_on(before, 1), last)
    state = step_on(
        jax.tree.map(jax.device_put, kept, shardings(steps)), (1, UNLIKELY, UNLIKELY, 2)
    )
    assert everywhere(state.bad_step) == 5
    assert steps.diverged_at(state) == 0
    assert_equal(state.parameters, kept.parameters)
    assert_equal(state.average, kept.average)
    assert_equal(state.optimizer_state, counted_on(kept, 1).optimizer_state)
    sums = jax.device_get(state.scores)
    assert sums.pop("skipped_steps") == 1
    assert sums["images"] == 4
    assert np.isfinite(sums["loss"])
    state = step_on(state, last)
    assert_equal(state.parameters, expected.parameters)
    assert_equal(state.average, expected.average)
    assert_equal(state.optimizer_state, expected.optimizer_state)
    assert everywhere(state.bad_step) == 5
    assert everywhere(steps.with_scores_reset(state).bad_step) == 0


def shardings(steps):
    return jax.tree.map(lambda shape: shape.sharding, steps.state_shapes())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gradient_that_overflows_on_one_device_is_seen_by_all(layout):
    """That of one unit of fc7, of a tower's and a dense part's device; the loss is finite."""
    steps, step_on = skipping(*layout)
    state = steps.initial_state()
    fc6, fc7, fc8 = (on_host(state.parameters[name]) for name in ("fc6", "fc7", "fc8"))
    fc7["bias"][0, 0], fc7["kernel"][0, :, 0] = 1e-37, 0  # passes on 1e-37, and the gradient
    fc8["kernel"][0, 0] = np.linspace(-1, 1, miniature.CLASSES) * NEARLY_INFINITE
    state = changed(state, fc6_kernel=1e4 * fc6["kernel"], fc7_kernel=fc7["kernel"],
                    fc7_bias=fc7["bias"], fc8_kernel=fc8["kernel"])  # fmt: skip
    loss, gradients = loss_and_gradients(steps, state)
    assert np.isfinite(loss)
    broken = {layer: ~np.isfinite(kinds["kernel"]) for layer, kinds in gradients.items()}
    assert broken["fc7"][0, :, 0].any()
    broken["fc7"][0, :, 0] = False
    assert not any(part.any() for part in broken.values())
    kept = on_host(state)
    state = step_on(step_on(state, (0, 1, 2, 3)), (0, 1, 2, 3))
    assert everywhere(state.bad_step) == 1
    assert int(state.scores["skipped_steps"]) == 2
    assert_equal(state.parameters, kept.parameters)


def loss_and_gradients(steps, state):
    images, _ = miniature.batch_of("quickstart", 6)
    batch = miniature.put(steps, images, np.int32((0, 1, 2, 3)))
    gradients, sums = steps.gradients()(state, *batch, miniature.plain_preprocessing(steps))
    return jax.device_get((sums["loss"], gradients))
