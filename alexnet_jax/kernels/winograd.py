"""Convolutions of stride 1 with small windows, in fewer multiplications.

Winograd's minimal filtering F(m, r), as Lavin and Gray use it for networks (2015,
arXiv:1509.09308), along the columns of an image alone: m results of a column come from a tile of
n = m + r - 1 pixels by n products instead of m r, between sums of pixels and sums of taps. It is a
product of polynomials, known from its values at n points. So a convolution of r x r is n
convolutions of 1 x r, and their results are summed in turn. In columns of 27 results 5 x 5 windows
need 41% of the multiplications, in those of 13 with 3 x 3 54%. Along lines it would be the same,
but here sums are of whole lines, and two windows of few filters can be one
(narrow_conv.convolve_pairs).

Rounding errors are two to seven times those of the sum over windows (docs/performance.md).
"""

import fractions
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from alexnet_jax.kernels import convolution, narrow_conv
from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.model.ops import conv_output_length

Number = int | fractions.Fraction
Sums = tuple[tuple[float, ...], ...]  # coefficients, a row for each sum

# So many channels and filters make the sums worth their time on a CPU, in short and long columns.
_SIZES, _FEWEST, _FEWEST_IN_LONG, _LONG = (3, 5), 32, 12, 12
# Where polynomials are evaluated, small numbers first; the last point is infinity.
_HALF = fractions.Fraction(1, 2)
_POINTS: tuple[Number, ...] = (0, 1, -1, 2, -2, _HALF, -_HALF)
_LARGEST_SHARE = 0.75  # of the multiplications, else the sums would cost more than is saved


def saves_products(x: jax.Array, kernel: jax.Array, padding: int) -> bool:
    """Whether `convolve_winograd` is faster here: enough channels and filters, and not bfloat16.

    bfloat16 would round the sums.
    """
    size = kernel.shape[0]
    if kernel.shape[1] != size or size not in _SIZES or x.dtype == jnp.bfloat16:
        return False
    count = conv_output_length(x.shape[1], size, stride=1, padding=padding, floor=True)
    products = _products(_results_of_a_tile(count, size), count, size)
    fewest = _FEWEST if count < _LONG else _FEWEST_IN_LONG
    return min(kernel.shape[2:]) >= fewest and products <= _LARGEST_SHARE * count * size


def convolve_winograd(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """As ops.convolve with stride 1 and a kernel [r, r, channels, filters].

    The gradient keeps x and the kernel alone, as that of other convolutions, and not the sums.
    """
    return _convolve(*convolution.match_both(x, kernel), padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, padding: int):
    size = len(kernel)
    count = conv_output_length(x.shape[1], size, stride=1, padding=padding, floor=True)
    m = _results_of_a_tile(count, size)
    for_pixels, for_taps, for_products = _transforms(m, size)
    tiles = _sums(for_pixels, _pixels(x, m, size, padding))
    taps = _sums(for_taps, [kernel[i, None] for i in range(size)])
    products = [
        narrow_conv.convolve_pairs(tile, tap, pad_height=0, pad_width=padding)
        for tile, tap in zip(tiles, taps, strict=True)
    ]
    # [batch, tiles, results of each, width, filters]
    y = jnp.stack(_sums(_transposed(for_products), products), axis=2)
    return materialize(y.reshape(y.shape[0], -1, *y.shape[3:])[:, :count])


def _forward(x, kernel, padding):
    return _convolve(x, kernel, padding), (x, kernel)


def _backward(padding, residuals, gradient):
    """The gradient of x is a convolution too, with the kernel rotated by half a turn."""
    x, kernel = residuals
    size = len(kernel)
    rotated = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    x_gradient = _convolve(gradient, rotated, size - 1 - padding)
    return x_gradient, _kernel_gradient(x, gradient, size, padding)


_convolve.defvjp(_forward, _backward)


def _kernel_gradient(x, gradient, size: int, padding: int):
    """The gradient of the kernel: the same sums, and of each sum the gradient of its 1 x r taps."""
    count, filters = gradient.shape[1], gradient.shape[3]
    m = _results_of_a_tile(count, size)
    for_pixels, for_taps, for_products = _transforms(m, size)
    room, none = -(-count // m) * m - count, (0, 0, 0)
    padded = materialize(
        jax.lax.pad(gradient, jnp.zeros((), x.dtype), [none, (0, room, 0), none, none])
    )
    results = _sums(for_products, [padded[:, i::m] for i in range(m)])
    tiles = _sums(for_pixels, _pixels(x, m, size, padding))

    def taps_gradient(tile, result):  # [1, r, channels, filters]
        taps = jnp.zeros((1, size, tile.shape[-1], filters), x.dtype)
        convolve = functools.partial(
            narrow_conv.convolve_pairs, tile, pad_height=0, pad_width=padding
        )
        return jax.vjp(convolve, convolution.match_varying(taps, tile))[1](result)[0]

    gradients = [taps_gradient(*pair) for pair in zip(tiles, results, strict=True)]
    return jnp.concatenate(_sums(_transposed(for_taps), gradients), axis=0)


def _pixels(x: jax.Array, m: int, size: int, padding: int) -> list[jax.Array]:
    """The first lines of all tiles, the second ones, ...: n of [batch, tiles, width, channels].

    A tile begins every m lines.
    """
    n = m + size - 1
    count = conv_output_length(x.shape[1], size, stride=1, padding=padding, floor=True)
    reach = (-(-count // m) - 1) * m
    sides, none = (padding, reach + n - padding - x.shape[1], 0), (0, 0, 0)
    padded = materialize(jax.lax.pad(x, jnp.zeros((), x.dtype), [none, sides, none, none]))
    return [padded[:, i : i + reach + 1 : m] for i in range(n)]


def _results_of_a_tile(count: int, size: int) -> int:
    """The m of F(m, r) that needs the fewest products for a column; of several the smallest."""
    return min(range(1, len(_POINTS) + 3 - size), key=lambda m: (_products(m, count, size), m))


def _products(m: int, count: int, size: int) -> int:
    """How many a column of `count` results needs, divided by the width of a window."""
    return -(-count // m) * (m + size - 1)


@functools.cache
def _transforms(m: int, size: int) -> tuple[Sums, Sums, Sums]:
    """Coefficients of the sums (Toom and Cook): of n pixels, of r taps, of n products (transposed).

    Each row belongs to a point p: the product of all (x - q) but (x - p), the powers of p over that
    product's value at p, and the powers of p; infinity has the product of all and the last power.
    """
    points = _POINTS[: m + size - 2]
    last = _product_of_roots(points)
    pixels: list[list[Number]] = []
    taps: list[list[Number]] = []
    products: list[list[Number]] = []
    for p in points:
        others = [q for q in points if q != p]
        coefficients: list[Number] = [*_product_of_roots(others), 0]
        value = sum(c * p**i for i, c in enumerate(coefficients))
        pixels.append(coefficients)
        taps.append([p**i / fractions.Fraction(value) for i in range(size)])
        products.append([p**i for i in range(m)])
    pixels.append(last)
    taps.append([*(0,) * (size - 1), 1])
    products.append([*(0,) * (m - 1), 1])
    return _as_floats(pixels), _as_floats(taps), _as_floats(products)


def _as_floats(rows: Sequence[Sequence[Number]]) -> Sums:
    return tuple(tuple(map(float, row)) for row in rows)


def _product_of_roots(roots: Sequence[Number]) -> list[Number]:
    """Coefficients of the product of all (x - root), the constant first."""
    coefficients: list[Number] = [1]
    for root in roots:
        up, down = [0, *coefficients], [*(-root * c for c in coefficients), 0]
        coefficients = [a + b for a, b in zip(up, down, strict=True)]
    return coefficients


def _transposed(sums: Sums) -> Sums:
    return tuple(zip(*sums, strict=True))


def _sums(rows: Sums, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """A sum of arrays for each row of coefficients; none is multiplied by 0, 1 or -1."""

    def weighted_sum(row: tuple[float, ...]) -> jax.Array:
        (first, array), *rest = (pair for pair in zip(row, arrays, strict=True) if pair[0] != 0)
        total = array if first == 1 else first * array
        for factor, array in rest:
            if abs(factor) == 1:
                total = total + array if factor == 1 else total - array
            else:
                total = total + factor * array
        return total

    return [weighted_sum(row) for row in rows]
