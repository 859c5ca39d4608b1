"""Winograd's convolutions against float64 loops; their rounding; two devices."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from alexnet_jax import kernels
from alexnet_jax.kernels import winograd
from alexnet_jax.model import ops
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, MaxPool, Output, ReLU
from tests.support import miniature
from tests.support.kernel_checks import assert_equal, assert_equals_loops


@pytest.mark.parametrize(
    ("height", "width", "size", "padding"),
    [(13, 13, 3, 1), (6, 8, 3, 0), (5, 4, 3, 2), (3, 3, 3, 0), (4, 27, 3, 1), (2, 1, 3, 4),
     (9, 9, 5, 2), (5, 12, 5, 0), (7, 6, 5, 4)],
)  # fmt: skip
@pytest.mark.parametrize("filters", [4, 32])  # two windows at once, or one
def test_winograds_convolution_equals_loops(float64, height, width, size, padding, filters):
    shapes = (2, height, width, 3), (size, size, 3, filters)
    assert_equals_loops(winograd.convolve_winograd, *shapes, padding)


@pytest.mark.parametrize(("size", "side"), [(3, 13), (5, 27)])
def test_winograds_rounding_is_within_ten_times_that_of_windows(size, side):
    """In float32, by the root of the mean square, at sizes of conv2 and conv3."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1, side, side, 64)).clip(0).astype(np.float32)
    kernel = random.normal(size=(size, size, 64, 32)).astype(np.float32)
    weights = random.normal(size=(1, side, side, 32)).astype(np.float32)
    padding = size // 2

    def windows(x, kernel, padding):
        return ops.convolve(x, kernel, stride=1, padding=padding, floor=True)

    @functools.partial(jax.jit, static_argnums=0)
    def results(convolve, x, kernel, weights):
        y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, padding), x, kernel)
        return y, *pull(weights)

    with jax.enable_x64(True):
        exact = jax.device_get(
            results(windows, *(a.astype(np.float64) for a in (x, kernel, weights)))
        )

    def errors(convolve):
        ours = jax.device_get(results(convolve, x, kernel, weights))
        return [np.sqrt(((a - b) ** 2).mean()) for a, b in zip(ours, exact, strict=True)]

    for ours, plain in zip(errors(winograd.convolve_winograd), errors(windows), strict=True):
        assert ours < 10 * plain


def test_winograds_columns_give_the_gradients_of_windows_on_two_devices(float64):
    """With as many channels as there have to be for this form to be taken."""
    layers = (Convolution("conv1", 32, size=5, padding=2), ReLU(), MaxPool(3, 2),
              Convolution("conv2", 48, size=3, padding=1), ReLU(), Output("fc3"))  # fmt: skip
    architecture = Architecture("wide", 28, 3, 1, layers)

    def gradients(data, choice):
        steps = miniature.make_steps("", data, 1, "float64", architecture=architecture)
        operations = kernels.select(choice, "cpu")
        steps = dataclasses.replace(steps, operations=operations)
        preprocessing = miniature.plain_preprocessing(steps)
        batch = miniature.put(steps, *miniature.batch_of("quickstart", 0))
        return jax.device_get(steps.gradients()(steps.initial_state(), *batch, preprocessing)[0])

    windows = gradients(1, "tuned,-winograd")
    assert_equal(gradients(2, "tuned"), windows, 1e-11)
