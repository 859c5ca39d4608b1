"""The kernels of the training step: those of the config, and several steps of one program."""

import dataclasses

import jax
import numpy as np
import pytest

from alexnet_jax import kernels
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.training import plan as configuration
from alexnet_jax.training import setup
from tests.support import miniature
from tests.support.kernel_checks import assert_equal
from tests.training.test_plan import load

CHOICE = "tuned,space_to_depth,-narrow_conv,-winograd,-tower_dense,banded_norm,batched_towers"


def test_the_config_chooses_the_kernels_of_the_step():
    config = load("quickstart")
    config.kernels = CHOICE
    architecture = configuration.architecture_of(config)
    plan = configuration.make_plan(config, architecture, num_images=100, data_classes=10)
    steps = setup.make_steps(config, plan, architecture, miniature.make_mesh(1, 1))
    assert steps.operations == kernels.select(CHOICE, "cpu")
    batch = steps.batch_shapes(4, config.data.image_size)
    preprocessing = miniature.plain_preprocessing(steps)
    chosen, usual = (
        each.training().lower(steps.state_shapes(), *batch, preprocessing).as_text()
        for each in (steps, dataclasses.replace(steps, operations=miniature.tuned()))
    )
    assert chosen.count("stablehlo.convolution(") < usual.count("stablehlo.convolution(")


@pytest.mark.parametrize(("data", "model"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_several_steps_of_one_program_equal_single_ones(float64, data, model):
    steps = miniature.make_steps("tiny", data, model, "float64")
    preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("tiny"))
    batches = [miniature.batch_of("tiny", step) for step in range(3)]
    state, train, losses = steps.initial_state(), steps.training(), []
    for batch in batches:
        state, loss = train(state, *miniature.put(steps, *batch), preprocessing)
        losses.append(loss)
    images, labels = (np.stack(arrays) for arrays in zip(*batches, strict=True))
    together, their_losses = steps.several_trainings()(
        steps.initial_state(), images, labels, preprocessing
    )
    np.testing.assert_allclose(their_losses, losses, rtol=1e-12)
    state, together = jax.device_get((state, together))
    assert int(together.step) == 3
    assert_equal(together.parameters, state.parameters, 1e-12)
    for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
