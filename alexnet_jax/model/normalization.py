"""Response normalisation across maps (paper section 3.3) and within a map (2012 source only).

Arrays are [rows, height, width, maps] of one tower, so that a window never reaches into the other
tower, as in the 2012 source, where a layer sees the maps of its own GPU alone.

All are x / d ** beta with d = k + alpha * (sum of squares over a window), and have the gradient in
closed form, which keeps only x and d: with g the gradient of the result,
    g / d ** beta - 2 alpha beta x * (sum over the mirrored window of g x / d ** (beta + 1)).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def across_map_norm(
    x: jax.Array,
    n: int,
    k: float,
    alpha: float,
    beta: float,
    banded: bool = False,
    automatic: bool = False,
) -> jax.Array:
    """Divide by (k + alpha * sum of squares over n adjacent maps) ** beta.

    `alpha` multiplies the plain sum (paper section 3.3). Windows are cut at the first and last map
    and alpha is not rescaled there; for an even `n` the extra map is on the low side. `banded`
    takes the sums as a product with a banded matrix, `automatic` leaves the gradient to jax.
    Source: kernel kFCNorm of cuda-convnet, used by layers-145.cfg.
    """
    normalize = _plain if automatic else _normalize
    return normalize(x, _sums_banded if banded else _sums_across, n, k, alpha, beta)


def spatial_norm(
    x: jax.Array, n: int, k: float, alpha: float, beta: float, automatic: bool = False
) -> jax.Array:
    """Divide by (k + alpha * sum of squares over an n x n window of the same map) ** beta.

    `alpha` multiplies the plain sum; pixels outside the image count as zero and alpha is not
    rescaled there. Source: layer type `rnorm` of cuda-convnet, layer `cnorm2` of layers-145.cfg.
    """
    return (_plain if automatic else _normalize)(x, _sums_within, n, k, alpha, beta)


def contrast_norm(x: jax.Array, n: int, k: float, alpha: float, beta: float) -> jax.Array:
    """As `spatial_norm`, but with squares of the differences from the mean of the n x n window.

    The mean is over the pixels inside the image; what is divided is x itself, not the difference.
    Source: layer type `cnorm` of cuda-convnet, used by the networks before net 137.
    """
    wide = _wide(x)
    low, high = _reach(n)
    counts = _sums_within(jnp.ones_like(wide[:1, :, :, :1]), low, high)
    differences = wide - _sums_within(wide, low, high) / counts
    squares = _sums_within(differences**2, low, high)
    return (wide * _power(k + alpha * squares, beta)).astype(x.dtype)


def _plain(x, sums: Callable, n: int, k: float, alpha: float, beta: float):
    return _forward(x, sums, n, k, alpha, beta)[0]


_normalize = jax.custom_vjp(_plain, nondiff_argnums=(1, 2, 3, 4, 5))


def _forward(x, sums, n, k, alpha, beta):
    wide = _wide(x)
    denominator = k + alpha * sums(wide**2, *_reach(n))
    return (wide * _power(denominator, beta)).astype(x.dtype), (x, denominator)


def _backward(sums, n, k, alpha, beta, kept, gradient):
    x, denominator = kept
    wide, scaled = _wide(x), _wide(gradient) * _power(denominator, beta)
    low, high = _reach(n)
    mirrored = sums(scaled * wide / denominator, high, low)
    return ((scaled - 2 * alpha * beta * wide * mirrored).astype(x.dtype),)


_normalize.defvjp(_forward, _backward)


def _wide(x: jax.Array) -> jax.Array:
    """bfloat16 cannot hold 2 + 1e-5, so sums and powers are at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _reach(n: int) -> tuple[int, int]:
    """How many neighbours a window has before and after its own place."""
    return n // 2, n - 1 - n // 2


def _sums_within(x: jax.Array, low: int, high: int) -> jax.Array:
    return _window_sums(x, (1, 2), low, high)  # height and width


def _sums_across(x: jax.Array, low: int, high: int) -> jax.Array:
    return _window_sums(x, (3,), low, high)  # maps


def _sums_banded(x: jax.Array, low: int, high: int) -> jax.Array:
    """As `_sums_across`; in full precision, since a GPU would round the squares to ten bits."""
    maps = np.arange(x.shape[-1])
    offset = maps[:, None] - maps[None, :]
    band = ((-low <= offset) & (offset <= high)).astype(x.dtype)
    return jnp.matmul(x, band, precision=jax.lax.Precision.HIGHEST)


def _window_sums(x: jax.Array, axes: tuple[int, ...], low: int, high: int) -> jax.Array:
    """Sum over `low` neighbours before and `high` after, along each axis; zero beyond the edge."""
    for axis in axes:
        length = x.shape[axis]
        padding = [(0, 0)] * x.ndim
        padding[axis] = (low, high)
        padded = jnp.pad(x, padding)
        x = sum(
            jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(low + 1 + high)
        )
    return x


def _power(denominator: jax.Array, beta: float) -> jax.Array:
    """denominator ** -beta."""
    if beta == 0.75:  # two square roots cost less than a general power
        root = jax.lax.rsqrt(denominator)
        return root * jnp.sqrt(root)
    return denominator**-beta
