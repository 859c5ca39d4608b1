"""A step in parts is the step of the whole batch, on every mesh, whatever else is chosen."""

import functools

import numpy as np
import pytest

from alexnet_jax.training import grad_accum, optimizer
from tests.support import miniature
from tests.training.test_train_step import assert_same

# Steps of four rows, of which each pair shares crop and flip, with dropout and colour noise.
CHOICES = {"label_smoothing": 0.1, "ema_decay": 0.7, "group_size": 2}


@functools.cache
def history(data, model, split_dense, lars, parts):
    trust = 0.5 if lars else None
    rule = optimizer.momentum_sgd(
        miniature.GROUPS, 0.9, schedule=optimizer.Schedule(warmup=2), trust_coefficient=trust
    )
    return miniature.run(
        "tiny", data, model, 3, "float64", split_dense,
        optimizer=rule, grad_accum_steps=parts, **CHOICES,
    )  # fmt: skip


def check_average(steps):
    """Against a NumPy loop over the parameters, divided by the sum of all shares."""
    total, shares, decay = 0.0, 0.0, CHOICES["ema_decay"]
    for step in steps:
        total = decay * total + (1 - decay) * step["parameters"]["fc7"]["kernel"]
        shares = decay * shares + 1 - decay
        error = np.linalg.norm(step["average"]["fc7"]["kernel"] - total / shares)
        assert error < 1e-13 * np.linalg.norm(total)


@pytest.mark.parametrize(
    ("data", "model", "split_dense", "lars", "parts"),
    [
        pytest.param(1, 1, False, True, 2, marks=pytest.mark.slow),
        (2, 2, False, True, 2),
        pytest.param(1, 2, False, True, 1, marks=pytest.mark.slow),
        pytest.param(2, 1, True, False, 2, marks=pytest.mark.slow),  # hybrid
        pytest.param(2, 2, True, False, 2, marks=pytest.mark.slow),
    ],
)
def test_parts_on_any_mesh_are_the_whole_batch_on_one_device(
    float64, monkeypatch, data, model, split_dense, lars, parts
):
    """Losses, gradients, scores, parameters under LARS too, and their average.

    In a loop as on a GPU, but for one case.
    """
    expected = history(1, 1, False, lars, 1)
    monkeypatch.setattr(grad_accum, "is_unrolled", lambda: data * model == 1)
    for ours, theirs in zip(history(data, model, split_dense, lars, parts), expected, strict=True):
        assert_same(ours, theirs, 1e-12)
    check_average(expected)
    kernels = [step["parameters"]["conv2"]["kernel"] for step in expected]
    assert np.linalg.norm(kernels[2] - kernels[1]) > 1e-3 * np.linalg.norm(kernels[1])
