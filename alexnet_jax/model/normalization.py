"""Response normalisation across maps (paper section 3.3) and within a map (2012 source only).

Arrays are [rows, height, width, maps] of one tower. A window does not reach into the other tower,
as in the 2012 source, where a layer sees the maps of its own GPU alone, unless both are given.

All are x / d ** beta with d = k + alpha * (sum of squares over a window), and have the gradient in
closed form, which keeps only x and d, or x alone: with g the gradient of the result,
    g / d ** beta - 2 alpha beta x * (sum over the mirrored window of g x / d ** (beta + 1)).
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.model.fusion import written

# (arrays of adjacent towers, neighbours before a place, neighbours after it) -> sums in each
Sums = Callable[[Sequence[jax.Array], int, int], list[jax.Array]]


def across_map_norm(
    maps: Sequence[jax.Array],
    n: int,
    k: float,
    alpha: float,
    beta: float,
    sums: str = "padded",
    automatic: bool = False,
) -> list[jax.Array]:
    """Divide by (k + alpha * sum of squares over n adjacent maps) ** beta.

    `maps` are those of one tower, [x]; or of adjacent towers, as if side by side in one array,
    which is not made. `alpha` multiplies the plain sum (paper section 3.3). Windows are cut at the
    first and last map and alpha is not rescaled there; for an even `n` the extra map is on the low
    side. `sums` is a field of formulation.Formulation, `automatic` leaves the gradient to jax.
    Source: kernel kFCNorm of cuda-convnet, used by layers-145.cfg.
    """
    normalize = _plain if automatic else _normalize
    across = functools.partial(_sums_across, form=sums)
    return normalize(tuple(maps), across, n, k, alpha, beta)


def spatial_norm(
    x: jax.Array, n: int, k: float, alpha: float, beta: float, automatic: bool = False
) -> jax.Array:
    """Divide by (k + alpha * sum of squares over an n x n window of the same map) ** beta.

    `alpha` multiplies the plain sum; pixels outside the image count as zero and alpha is not
    rescaled there. Source: layer type `rnorm` of cuda-convnet, layer `cnorm2` of layers-145.cfg.
    """
    return (_plain if automatic else _normalize)((x,), _sums_within, n, k, alpha, beta)[0]


def contrast_norm(x: jax.Array, n: int, k: float, alpha: float, beta: float) -> jax.Array:
    """As `spatial_norm`, but with squares of the differences from the mean of the n x n window.

    The mean is over the pixels inside the image; what is divided is x itself, not the difference.
    Source: layer type `cnorm` of cuda-convnet, used by the networks before net 137.
    """
    wide = _wide(x)
    low, high = _reach(n)
    counts, totals = _sums_within([jnp.ones_like(wide[:1, :, :, :1]), wide], low, high)
    squares = _sums_within([(wide - totals / counts) ** 2], low, high)[0]
    return (wide * _power(k + alpha * squares, beta)).astype(x.dtype)


def _plain(maps, sums: Sums, n: int, k: float, alpha: float, beta: float):
    return _normalized(maps, _denominators(maps, sums, n, k, alpha), beta)


_normalize = jax.custom_vjp(_plain, nondiff_argnums=(1, 2, 3, 4, 5))


def _forward(maps, sums, n, k, alpha, beta):
    denominators = _denominators(maps, sums, n, k, alpha)
    results = _normalized(maps, denominators, beta)
    if _writes_little():
        return jax.lax.optimization_barrier(results), (maps, None)
    return results, (maps, denominators)


def _normalized(maps, denominators, beta):
    return [
        (_wide(x) * _power(denominator, beta)).astype(x.dtype)
        for x, denominator in zip(maps, denominators, strict=True)
    ]


def _denominators(maps, sums: Sums, n: int, k: float, alpha: float) -> list[jax.Array]:
    squares = sums([_wide(x) ** 2 for x in maps], *_reach(n))
    return [k + alpha * own for own in squares]


def _backward(sums, n, k, alpha, beta, kept, gradients):
    maps, denominators = kept
    narrow = denominators is None
    if narrow:
        maps = jax.lax.optimization_barrier(maps)  # or XLA keeps the forward pass's denominators
        denominators = _denominators(maps, sums, n, k, alpha)
    low, high = _reach(n)
    scaled = [
        _wide(gradient) * _power(denominator, beta)
        for gradient, denominator in zip(gradients, denominators, strict=True)
    ]
    products = [
        own * _wide(x) / denominator
        for own, x, denominator in zip(scaled, maps, denominators, strict=True)
    ]
    if narrow:
        products = [own.astype(x.dtype) for own, x in zip(products, maps, strict=True)]
        products = [_wide(own) for own in jax.lax.optimization_barrier(products)]
    mirrored = sums(products, high, low)
    result = (
        (own - 2 * alpha * beta * _wide(x) * around).astype(x.dtype)
        for own, x, around in zip(scaled, maps, mirrored, strict=True)
    )
    return (tuple(result),)


_normalize.defvjp(_forward, _backward)


def _writes_little() -> bool:
    """Whether denominators are computed twice and what is written is as narrow as the maps.

    A GPU computes faster than it writes. Barriers keep XLA from writing float32 all the same.
    """
    return jax.default_backend() == "gpu"


def _wide(x: jax.Array) -> jax.Array:
    """bfloat16 cannot hold 2 + 1e-5, so sums and powers are at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _reach(n: int) -> tuple[int, int]:
    """How many neighbours a window has before and after its own place."""
    return n // 2, n - 1 - n // 2


def _sums_within(maps: Sequence[jax.Array], low: int, high: int) -> list[jax.Array]:
    """Sums over height and width, each tower by itself; zero beyond the edge."""
    sides = ((0, 0), (low, high), (low, high), (0, 0))
    padded = (jnp.pad(x, sides) for x in maps)
    return [_shifted_sums(_shifted_sums(x, 1, low + high), 2, low + high) for x in padded]


def _sums_across(maps: Sequence[jax.Array], low: int, high: int, form: str) -> list[jax.Array]:
    """Sums over maps, which go on in the towers beside; zero before the first and after the last.

    "banded" is a product in full precision, since a GPU would round the squares to ten bits.
    """
    if form == "shifts" or (form == "padded" and jax.default_backend() != "cpu"):
        return [_shifted_into(tower, maps, low, high) for tower in range(len(maps))]
    found = []
    for tower, x in enumerate(maps):
        nothing = jnp.zeros((*x.shape[:-1], max(low, high)), x.dtype)
        before = jnp.concatenate([nothing, *maps[:tower]], axis=-1)
        after = jnp.concatenate([*maps[tower + 1 :], nothing], axis=-1)
        last, first = before[..., before.shape[-1] - low :], after[..., :high]
        padded = jnp.concatenate([last, x, first], axis=-1)
        if form == "banded":
            offset = np.arange(padded.shape[-1])[:, None] - np.arange(x.shape[-1])
            band = ((offset >= 0) & (offset <= low + high)).astype(x.dtype)
            found.append(jnp.matmul(padded, band, precision=jax.lax.Precision.HIGHEST))
            continue
        found.append(_shifted_sums(written(padded), x.ndim - 1, low + high))
    return found


def _shifted_into(tower: int, maps: Sequence[jax.Array], low: int, high: int) -> jax.Array:
    """Sums for the maps of a tower, each shift of each tower's maps cut to those places."""
    width, total = maps[tower].shape[-1], jnp.zeros_like(maps[tower])
    for offset in range(-low, high + 1):
        for other, x in enumerate(maps):
            by = (other - tower) * width - offset
            if abs(by) < width:  # something of it is left
                sides = [(0, 0, 0)] * (x.ndim - 1) + [(by, -by, 0)]
                total += jax.lax.pad(x, jnp.zeros((), x.dtype), sides)
    return total


def _shifted_sums(padded: jax.Array, axis: int, reach: int) -> jax.Array:
    """Sums of `reach` + 1 neighbours along an axis, which becomes as much shorter."""
    length = padded.shape[axis] - reach
    return sum(jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(reach + 1))


def _power(denominator: jax.Array, beta: float) -> jax.Array:
    """denominator ** -beta."""
    if beta == 0.75:  # two square roots cost less than a general power
        root = jax.lax.rsqrt(denominator)
        return root * jnp.sqrt(root)
    return denominator**-beta
