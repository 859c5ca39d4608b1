"""What the custom gradient of max-pooling is made of; its values are compared in test_layers."""

import jax
import jax.numpy as jnp

from alexnet_jax.kernels import pooling


def test_max_pool_needs_no_scatter():
    """XLA's deterministic mode on GPUs refuses select-and-scatter."""
    gradient = jax.jit(jax.grad(lambda x: pooling.max_pool(x, 3, 2).sum()))
    text = gradient.lower(jax.ShapeDtypeStruct((2, 13, 13, 4), jnp.float32)).as_text()
    assert "scatter" not in text
