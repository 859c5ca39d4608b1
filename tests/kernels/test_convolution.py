"""Folded convolutions, im2col and the gradient of the bias against float64 loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.kernels import convolution
from alexnet_jax.model import ops
from tests.support import reference


@pytest.mark.parametrize("form", [convolution.convolve_folded, convolution.convolve_patches])
@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize(
    ("length", "size", "stride", "padding"),
    [(15, 5, 4, 0), (9, 5, 2, 2), (12, 11, 4, 1), (10, 4, 2, 0), (11, 2, 3, 0), (7, 3, 1, 1)],
)
def test_a_form_of_a_convolution_equals_loops(float64, form, floor, length, size, stride, padding):
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(2, length, length, 3)), random.normal(size=(size, size, 3, 4))
    ours = jax.jit(functools.partial(form, stride=stride, padding=padding, floor=floor))(x, kernel)
    expected = reference.convolve(x, kernel, np.zeros(4), stride, padding)
    expected = expected[:, : ours.shape[1], : ours.shape[2]]  # the loops take the ceiling
    counted = ops.conv_output_length(length, size, stride=stride, padding=padding, floor=floor)
    assert ours.shape == expected.shape == (2, counted, counted, 4)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_a_biass_gradient_is_the_sum_over_examples_and_pixels(float64):
    random = np.random.default_rng(0)
    y, weights = random.normal(size=(2, 3, 4, 5, 6))
    bias = random.normal(size=6)
    result, pull = jax.vjp(convolution.add_bias, y, bias)
    np.testing.assert_array_equal(result, y + bias)
    by_y, by_bias = pull(weights)
    np.testing.assert_array_equal(by_y, weights)
    np.testing.assert_allclose(by_bias, weights.sum((0, 1, 2)), rtol=1e-12)


def test_a_biass_gradient_is_summed_in_float32():
    """4,096 ones have a sum that bfloat16 would not reach by adding them up."""
    y, bias = jnp.zeros((4, 32, 32, 1), jnp.bfloat16), jnp.zeros(1, jnp.bfloat16)
    assert jax.vjp(convolution.add_bias, y, bias)[1](jnp.ones_like(y))[1] == 4096
