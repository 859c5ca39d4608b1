"""Response normalisation across maps (paper section 3.3) and within a map (2012 source only).

Arrays are [rows, height, width, maps] of one tower, so that a window never reaches into the other
tower, as in the 2012 source, where a layer sees the maps of its own GPU alone.
"""

import jax
import jax.numpy as jnp


def across_map_norm(x: jax.Array, n: int, k: float, alpha: float, beta: float) -> jax.Array:
    """Divide by (k + alpha * sum of squares over n adjacent maps) ** beta.

    `alpha` multiplies the plain sum (paper section 3.3). Windows are cut at the first and last map
    and alpha is not rescaled there; for an even `n` the extra map is on the low side.
    Source: kernel kFCNorm of cuda-convnet, used by layers-145.cfg.
    """
    low = n // 2
    squares = _wide(x) ** 2
    return _divide(x, k + alpha * _window_sum(squares, axis=3, low=low, high=n - 1 - low), beta)


def spatial_norm(x: jax.Array, n: int, k: float, alpha: float, beta: float) -> jax.Array:
    """Divide by (k + alpha * sum of squares over an n x n window of the same map) ** beta.

    `alpha` multiplies the plain sum; pixels outside the image count as zero and alpha is not
    rescaled there. Source: layer type `rnorm` of cuda-convnet, layer `cnorm2` of layers-145.cfg.
    """
    low = n // 2
    total = _wide(x) ** 2
    for axis in (1, 2):
        total = _window_sum(total, axis=axis, low=low, high=n - 1 - low)
    return _divide(x, k + alpha * total, beta)


def _wide(x: jax.Array) -> jax.Array:
    """bfloat16 cannot hold 2 + 1e-5, so sums and powers are at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _window_sum(x: jax.Array, axis: int, low: int, high: int) -> jax.Array:
    length = x.shape[axis]
    padding = [(0, 0)] * x.ndim
    padding[axis] = (low, high)
    padded = jnp.pad(x, padding)
    parts = (jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(low + 1 + high))
    return sum(parts)


def _divide(x: jax.Array, denominator: jax.Array, beta: float) -> jax.Array:
    if beta == 0.75:  # two square roots cost less than a general power
        root = jax.lax.rsqrt(denominator)
        factor = root * jnp.sqrt(root)
    else:
        factor = denominator**-beta
    return (_wide(x) * factor).astype(x.dtype)
