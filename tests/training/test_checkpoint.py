"""Checkpoints bring the state back, on any mesh, and are not disturbed by the steps after them."""

import dataclasses

import jax
import numpy as np
import pytest

from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.checkpoint import Checkpoints, newest_facts
from alexnet_jax.training.train_state import parameters_sha256
from alexnet_jax.training.warm_start import load_parameters
from tests.support import miniature


def trained(steps, count=2):
    preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("tiny"))
    state, train = steps.initial_state(), steps.training()
    for step in range(count):
        batch = miniature.put(steps, *miniature.batch_of("tiny", step))
        state, _ = train(state, *batch, preprocessing)
    return state, lambda state, step: train(
        state, *miniature.put(steps, *miniature.batch_of("tiny", step)), preprocessing
    )[0]


def assert_equal(ours, theirs):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def saved_on_four(tmp_path_factory):
    """The folder of a checkpoint that 2 x 2 devices saved after two steps, and its state."""
    folder = tmp_path_factory.mktemp("four")
    state, _ = trained(miniature.make_steps("tiny", 2, 2))
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(2, state, {"step": 2, "validation": {"loss": 0.5}})
    return folder, state


@pytest.mark.parametrize(("data", "model"), [(1, 1), (4, 2), (1, 2), (8, 1)])
def test_a_state_comes_back_on_another_mesh(saved_on_four, data, model):
    folder, state = saved_on_four
    there = miniature.make_steps("tiny", data, model)
    with Checkpoints(folder, keep=2) as checkpoints:
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
    steps = miniature.make_steps("tiny", 1, 1)
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
    steps = miniature.make_steps("tiny", 1, 1)
    state = steps.initial_state()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest() is None
        for step in (1, 5, 9):
            checkpoints.save(step, state, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "9"]


def test_the_best_and_every_so_many_are_kept_too(tmp_path):
    """Also over a restart, and where some saves come without an evaluation."""
    steps = miniature.make_steps("tiny", 1, 1)
    state = steps.initial_state()
    errors = {1: 0.9, 2: 0.4, 3: None, 4: 0.4, 5: 0.6, 6: None, 7: 0.5, 8: None, 9: 0.45}
    for part in (range(1, 6), range(6, 10)):
        with Checkpoints(
            tmp_path, keep=1, keep_best=1, keep_for_good=lambda s: s % 3 == 0
        ) as checkpoints:
            for step in part:
                checkpoints.save(step, state, {"step": step}, errors[step])
    # 2 is the first of the lowest errors, 3 and 6 are kept for good, 9 is the newest.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "6", "9"]


def test_facts_are_read_without_making_anything(tmp_path):
    assert newest_facts(tmp_path / "nowhere") is None
    assert list(tmp_path.iterdir()) == []
    steps = miniature.make_steps("tiny", 1, 1)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(3, steps.initial_state(), {"identity": {"seed": 5}})
        checkpoints.save(12, steps.initial_state(), {"identity": {"seed": 6}})
    assert newest_facts(tmp_path) == {"identity": {"seed": 6}}


def saved_run(tmp_path, steps):
    state = steps.initial_state()
    with Checkpoints(tmp_path / "run/checkpoints", keep=5) as checkpoints:
        for step in (4, 8):
            scaled = jax.tree.map(lambda x, by=step: x * by, state.parameters)
            checkpoints.save(step, state._replace(parameters=scaled), {})
    return state.parameters


def test_parameters_of_another_run_are_taken_whole_or_by_layer(tmp_path):
    drawn = saved_run(tmp_path, miniature.make_steps("quickstart", 1, 1))
    there = miniature.make_steps("quickstart", 2, 2)  # and laid out on this run's mesh
    shapes = there.state_shapes().parameters
    whole, where = load_parameters(tmp_path / "run", shapes, layers=())
    assert where.endswith("checkpoints/8")
    assert set(whole) == set(drawn)
    assert_equal(whole, jax.tree.map(lambda x: x * 8, drawn))
    for leaf, shape in zip(jax.tree.leaves(whole), jax.tree.leaves(shapes), strict=True):
        assert leaf.sharding == shape.sharding
    part, _ = load_parameters(tmp_path / "run/checkpoints/4", shapes, layers=("conv2", "fc6"))
    assert set(part) == {"conv2", "fc6"}
    assert_equal(part["fc6"], jax.tree.map(lambda x: x * 4, drawn["fc6"]))


def test_parameters_that_do_not_fit_are_refused_by_name(tmp_path):
    saved_run(tmp_path, miniature.make_steps("quickstart", 1, 1))
    steps = dataclasses.replace(miniature.make_steps("quickstart", 1, 1), num_classes=7)
    shapes = steps.state_shapes().parameters
    with pytest.raises(UserError, match="fc8.*has the shape .*10.* there and .*7.* here"):
        load_parameters(tmp_path / "run", shapes, layers=())
    assert "fc8" not in load_parameters(tmp_path / "run", shapes, layers=("conv1", "fc7"))[0]
    with pytest.raises(UserError, match="layer conv9 is not in both networks"):
        load_parameters(tmp_path / "run", shapes, layers=("conv9",))
    assert "fc8" not in load_parameters(tmp_path / "run", shapes, layers=(), skip=("fc8",))[0]
    assert set(load_parameters(tmp_path / "run", shapes, layers=(), skip=("fc8", "fc7"))[0]) == {
        "conv1", "conv2", "conv3", "fc6"
    }  # fmt: skip
    with pytest.raises(UserError, match="init.skip names fc9, but the networks have the layers"):
        load_parameters(tmp_path / "run", shapes, layers=(), skip=("fc9",))
    with pytest.raises(UserError, match="conv1 is to be taken by init.layers and left out"):
        load_parameters(tmp_path / "run", shapes, layers=("conv1", "conv2"), skip=("conv1",))
    with pytest.raises(UserError, match="not the folder of a run"):
        load_parameters(tmp_path, shapes, layers=())
    with pytest.raises(UserError, match="there is no complete checkpoint"):
        load_parameters(tmp_path / "run/checkpoints/5", shapes, layers=())


def test_the_hash_sees_every_bit_and_name():
    one = {"conv1": {"kernel": jax.numpy.zeros(3), "bias": jax.numpy.zeros(3)}}
    other = {"conv1": {"kernel": jax.numpy.zeros(3).at[1].set(1e-30), "bias": jax.numpy.zeros(3)}}
    renamed = {"conv2": one["conv1"]}
    assert parameters_sha256(one) == parameters_sha256(jax.tree.map(lambda x: x + 0, one))
    assert len({parameters_sha256(tree) for tree in (one, other, renamed)}) == 3
