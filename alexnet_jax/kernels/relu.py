"""ReLU whose gradient needs the result alone: a GPU does not write the input to memory."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def relu(x):
    """As ops.relu."""
    return jnp.maximum(x, jnp.zeros((), x.dtype))


def _forward(x):
    y = relu(x)
    return y, y


def _backward(y, gradient):
    y = jax.lax.optimization_barrier(y)  # or XLA asks whether x > 0, and keeps it
    return (jnp.where(y > 0, gradient, jnp.zeros((), gradient.dtype)),)


relu.defvjp(_forward, _backward)
