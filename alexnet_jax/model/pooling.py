"""Pooling with cuda-convnet's rule: the last window may hang over the edge and is clipped there."""

import jax
import jax.numpy as jnp
import numpy as np


def pooled_length(length: int, size: int, stride: int) -> int:
    """Windows along one side: 1 + ceil((length - size) / stride). Source: layer.py, 2012."""
    return 1 - (size - length) // stride if length > size else 1


def max_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Maximum over size x size windows, `stride` apart (paper section 3.4: 3 and 2).

    `x` is [rows, height, width, maps]. The gradient goes to the first maximum of a window.
    """
    return _reduce(x, jax.lax.max, -np.inf, size, stride)


def average_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Mean over size x size windows; a clipped window divides by what is left of it."""
    total = _reduce(x, jax.lax.add, 0, size, stride)
    counts = [_window_lengths(length, size, stride) for length in x.shape[1:3]]
    return total / jnp.asarray(np.multiply.outer(*counts)[:, :, None], x.dtype)


def _window_lengths(length: int, size: int, stride: int) -> np.ndarray:
    starts = np.arange(pooled_length(length, size, stride)) * stride
    return np.minimum(starts + size, length) - starts


def _reduce(x: jax.Array, operation, initial: float, size: int, stride: int) -> jax.Array:
    start = np.array(initial, x.dtype)  # a constant: jax differentiates only such windows
    overhang = [
        (0, max(0, (pooled_length(n, size, stride) - 1) * stride + size - n)) for n in x.shape[1:3]
    ]
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    padding = ((0, 0), *overhang, (0, 0))
    return jax.lax.reduce_window(x, start, operation, window, strides, padding)
