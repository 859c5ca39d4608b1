"""The search for numbers that are not finite, as a product: five times as fast by XLA on a CPU."""

import jax
import jax.numpy as jnp

from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.model import ops


def has_nonfinite(x: jax.Array) -> jax.Array:
    """As ops.has_nonfinite."""
    if jax.default_backend() != "cpu" or x.ndim < 2:
        return ops.has_nonfinite(x)
    columns = x.shape[-1]
    zeros = materialize(jnp.zeros(columns, x.dtype))  # or XLA would know the product
    return jnp.isnan(x.reshape(-1, columns) @ zeros).any()
