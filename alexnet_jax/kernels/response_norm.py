"""Response normalization across channels (paper section 3.3) and over pixels (2012 source only).

Arrays are [batch, height, width, channels] of one tower. A window reaches into the next tower only
where the arrays of several towers are passed: in 2012 a layer saw the channels of its GPU alone.

All are x / d ** beta with d = k + alpha * (sum of squares over a window). The gradient in closed
form keeps only x and d, or x alone: with g the gradient of the result it is
    g / d ** beta - 2 alpha beta x * (sum over the mirrored window of g x / d ** (beta + 1)).
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.model.ops import shifted_sums, widen, window_reach

# (arrays of adjacent towers, neighbours before a place, neighbours after it) -> sums in each
Sums = Callable[[Sequence[jax.Array], int, int], list[jax.Array]]


def response_norm(
    towers: Sequence[jax.Array],
    n: int,
    *,
    k: float,
    alpha: float,
    beta: float,
    sums: str = "padded",
    closed: bool = True,
) -> list[jax.Array]:
    """As ops.response_norm; towers are not put side by side in one array.

    `sums` over adjacent channels are additions of "shifts", "padded" on a CPU of a copy with zeros
    beyond the edge, which XLA there adds faster; or a product with a "banded" matrix of zeros and
    ones. `closed` gradients need x and the denominators, or x alone; else jax derives them.
    """
    normalize = _normalize if closed else _plain
    across = functools.partial(_sums_across, form=sums)
    return normalize(tuple(towers), across, n, k, alpha, beta)


def spatial_norm(x: jax.Array, n: int, *, k: float, alpha: float, beta: float) -> jax.Array:
    """As ops.spatial_norm, with the gradient in closed form."""
    return _normalize((x,), _sums_within, n, k, alpha, beta)[0]


def contrast_norm(x: jax.Array, n: int, *, k: float, alpha: float, beta: float) -> jax.Array:
    """As ops.contrast_norm; a power of 3/4 as two square roots."""
    wide = widen(x)
    low, high = window_reach(n)
    counts, totals = _sums_within([jnp.ones_like(wide[:1, :, :, :1]), wide], low, high)
    squares = _sums_within([(wide - totals / counts) ** 2], low, high)[0]
    return (wide * _power(k + alpha * squares, beta)).astype(x.dtype)


def _plain(towers, sums: Sums, n: int, k: float, alpha: float, beta: float):
    return _normalized(towers, _denominators(towers, sums, n, k, alpha), beta)


_normalize = jax.custom_vjp(_plain, nondiff_argnums=(1, 2, 3, 4, 5))


def _forward(towers, sums, n, k, alpha, beta):
    denominators = _denominators(towers, sums, n, k, alpha)
    results = _normalized(towers, denominators, beta)
    if _writes_little():
        return jax.lax.optimization_barrier(results), (towers, None)
    return results, (towers, denominators)


def _normalized(towers, denominators, beta):
    return [
        (widen(x) * _power(denominator, beta)).astype(x.dtype)
        for x, denominator in zip(towers, denominators, strict=True)
    ]


def _denominators(towers, sums: Sums, n: int, k: float, alpha: float) -> list[jax.Array]:
    squares = sums([widen(x) ** 2 for x in towers], *window_reach(n))
    return [k + alpha * square for square in squares]


def _backward(sums, n, k, alpha, beta, residuals, gradients):
    towers, denominators = residuals
    writes_little = denominators is None
    if writes_little:
        towers = jax.lax.optimization_barrier(
            towers
        )  # or XLA keeps the forward pass's denominators
        denominators = _denominators(towers, sums, n, k, alpha)
    low, high = window_reach(n)
    scaled = [
        widen(gradient) * _power(denominator, beta)
        for gradient, denominator in zip(gradients, denominators, strict=True)
    ]
    products = [
        factor * widen(x) / denominator
        for factor, x, denominator in zip(scaled, towers, denominators, strict=True)
    ]
    if writes_little:
        products = [part.astype(x.dtype) for part, x in zip(products, towers, strict=True)]
        products = [widen(part) for part in jax.lax.optimization_barrier(products)]
    mirrored = sums(products, high, low)
    result = (
        (factor - 2 * alpha * beta * widen(x) * around).astype(x.dtype)
        for factor, x, around in zip(scaled, towers, mirrored, strict=True)
    )
    return (tuple(result),)


_normalize.defvjp(_forward, _backward)


def _writes_little() -> bool:
    """Whether denominators are computed twice, and arrays are written in the dtype of the input.

    A GPU computes faster than it writes. Barriers keep XLA from writing float32 instead.
    """
    return jax.default_backend() == "gpu"


def _sums_within(towers: Sequence[jax.Array], low: int, high: int) -> list[jax.Array]:
    """Sums over height and width, each tower by itself; zero beyond the edge."""
    sides = ((0, 0), (low, high), (low, high), (0, 0))
    padded = (jnp.pad(x, sides) for x in towers)
    return [shifted_sums(shifted_sums(x, 1, low + high + 1), 2, low + high + 1) for x in padded]


def _sums_across(towers: Sequence[jax.Array], low: int, high: int, form: str) -> list[jax.Array]:
    """Sums over channels, across towers; zero before the first tower and after the last.

    "banded" is a product in full precision, since a GPU would round the squares to ten bits.
    """
    if form == "shifts" or (form == "padded" and jax.default_backend() != "cpu"):
        return [_shifted_into(tower, towers, low, high) for tower in range(len(towers))]
    results = []
    for tower, x in enumerate(towers):
        nothing = jnp.zeros((*x.shape[:-1], max(low, high)), x.dtype)
        before = jnp.concatenate([nothing, *towers[:tower]], axis=-1)
        after = jnp.concatenate([*towers[tower + 1 :], nothing], axis=-1)
        last, first = before[..., before.shape[-1] - low :], after[..., :high]
        padded = jnp.concatenate([last, x, first], axis=-1)
        if form == "banded":
            offset = np.arange(padded.shape[-1])[:, None] - np.arange(x.shape[-1])
            band = ((offset >= 0) & (offset <= low + high)).astype(x.dtype)
            results.append(jnp.matmul(padded, band, precision=jax.lax.Precision.HIGHEST))
            continue
        results.append(shifted_sums(materialize(padded), x.ndim - 1, low + high + 1))
    return results


def _shifted_into(tower: int, towers: Sequence[jax.Array], low: int, high: int) -> jax.Array:
    """Sums for the channels of a tower: shifted channels of each tower, cut to its places."""
    width, total = towers[tower].shape[-1], jnp.zeros_like(towers[tower])
    for offset in range(-low, high + 1):
        for other, x in enumerate(towers):
            by = (other - tower) * width - offset
            if abs(by) < width:  # something of it is left
                sides = [(0, 0, 0)] * (x.ndim - 1) + [(by, -by, 0)]
                total += jax.lax.pad(x, jnp.zeros((), x.dtype), sides)
    return total


def _power(denominator: jax.Array, beta: float) -> jax.Array:
    """denominator ** -beta."""
    if beta == 0.75:  # two square roots cost less than a general power
        root = jax.lax.rsqrt(denominator)
        return root * jnp.sqrt(root)
    return denominator**-beta
