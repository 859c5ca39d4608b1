"""The product of all towers' dense layers against NumPy, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.kernels import tower_dense


@pytest.mark.parametrize("batch", [3, 40, 65])  # small; small in the backward pass alone; large
@pytest.mark.parametrize(  # of several towers, small batches take blocks of 64 inputs, or them all
    ("towers", "inputs", "units"), [(1, 12, 5), (2, 128, 5), (2, 30, 4), (3, 64, 2)]
)
def test_a_dense_product_equals_numpys(float64, batch, towers, inputs, units):
    random = np.random.default_rng(0)
    x, kernel = (
        random.normal(size=(towers, *shape)) for shape in ((batch, inputs), (inputs, units))
    )
    weights = random.normal(size=(towers, batch, units))

    @jax.jit
    def results(x, kernel, weights):
        y, pull = jax.vjp(tower_dense.tower_product, x, kernel)
        return y, *pull(weights)

    y, by_x, by_kernel = jax.device_get(results(x, kernel, weights))
    for tower in range(towers):
        np.testing.assert_allclose(y[tower], x[tower] @ kernel[tower], rtol=1e-11, atol=1e-11)
        expected = weights[tower] @ kernel[tower].T
        np.testing.assert_allclose(by_x[tower], expected, rtol=1e-11, atol=1e-11)
        expected = x[tower].T @ weights[tower]
        np.testing.assert_allclose(by_kernel[tower], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("batch", [3, 65])
@pytest.mark.parametrize("wrt", ["x", "kernel"])
def test_a_dense_layer_computes_the_gradients_that_are_asked_for(batch, wrt):
    """Frozen layers need none for their kernels, nor does the lowest that learns for its input."""
    x, kernel, weights = jnp.ones((2, batch, 128)), jnp.ones((2, 128, 6)), jnp.ones((2, batch, 6))

    def gradient(x, kernel):
        fixed = {"x": lambda x: (x, kernel), "kernel": lambda kernel: (x, kernel)}[wrt]
        _, pull = jax.vjp(
            lambda one: tower_dense.tower_product(*fixed(one)), {"x": x, "kernel": kernel}[wrt]
        )
        return pull(weights)

    # The backward pass alone, since nothing reads the result.
    assert jax.jit(gradient).lower(x, kernel).as_text().count("dot_general") == 1
