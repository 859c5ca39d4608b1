"""Checkpoints bring the state back, on any mesh, and are not disturbed by the steps after them."""

import jax
import numpy as np
import pytest

from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.training.checkpoint import Checkpoints, parameters_sha256
from tests import miniature


def trained(steps, count=2):
    preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("quickstart"))
    state, train = steps.initial_state(), steps.training()
    for step in range(count):
        batch = miniature.put(steps, *miniature.batch_of("quickstart", step))
        state, _ = train(state, *batch, preprocessing)
    return state, lambda state, step: train(
        state, *miniature.put(steps, *miniature.batch_of("quickstart", step)), preprocessing
    )[0]


def assert_equal(ours, theirs):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("data", "model"), [(1, 1), (4, 2), (1, 2), (8, 1)])
def test_a_state_comes_back_on_another_mesh(tmp_path, data, model):
    steps = miniature.make_steps("quickstart", 2, 2)
    state, _ = trained(steps)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(2, state, {"step": 2, "validation": {"loss": 0.5}})
    there = miniature.make_steps("quickstart", data, model)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        restored, facts = checkpoints.restore(checkpoints.latest(), there.state_shapes())
    assert_equal(restored, state)
    assert facts == {"step": 2, "validation": {"loss": 0.5}}
    assert parameters_sha256(restored.parameters) == parameters_sha256(state.parameters)
    for leaf, shape in zip(
        jax.tree.leaves(restored), jax.tree.leaves(there.state_shapes()), strict=True
    ):
        assert leaf.sharding == shape.sharding


def test_steps_after_a_save_do_not_reach_into_it(tmp_path):
    """The state is donated to the next step while the save still runs."""
    steps = miniature.make_steps("quickstart", 1, 1)
    state, step_on = trained(steps)
    saved = jax.tree.map(np.array, state)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(2, state, {})
        for step in range(2, 6):
            state = step_on(state, step)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        restored, _ = checkpoints.restore(2, steps.state_shapes())
    assert_equal(restored, saved)


def test_only_the_newest_are_kept(tmp_path):
    steps = miniature.make_steps("quickstart", 1, 1)
    state = steps.initial_state()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest() is None
        for step in (1, 5, 9):
            checkpoints.save(step, state, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "9"]


def test_the_hash_sees_every_bit_and_name():
    one = {"conv1": {"kernel": jax.numpy.zeros(3), "bias": jax.numpy.zeros(3)}}
    other = {"conv1": {"kernel": jax.numpy.zeros(3).at[1].set(1e-30), "bias": jax.numpy.zeros(3)}}
    renamed = {"conv2": one["conv1"]}
    assert parameters_sha256(one) == parameters_sha256(jax.tree.map(lambda x: x + 0, one))
    assert len({parameters_sha256(tree) for tree in (one, other, renamed)}) == 3
