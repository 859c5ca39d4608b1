"""Convolutions with 3 x 3 windows, 1 apart, in fewer multiplications.

Winograd's minimal filtering F(2 x 2, 3 x 3), as Lavin and Gray use it for networks (2015,
arXiv:1509.09308): 2 x 2 results come from a 4 x 4 tile of the image by 16 products instead of 36,
between sums of pixels and sums of taps. So the convolution is sixteen products of matrices
[tiles, maps] and [maps, filters]. Rounding errors are about those of the sum over windows.
"""

import jax
import jax.numpy as jnp

from alexnet_jax.model.convolution import varying

FEWEST_MAPS = 128  # as many maps and filters as make the sums worth their time on a CPU


def is_worth_it(x: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Whether `convolve` is meant for such a convolution: 3 x 3, 1 apart, many maps, not bfloat16.

    bfloat16 would round the sums.
    """
    fits = kernel.shape[:2] == (3, 3) and stride == 1 and x.dtype != jnp.bfloat16
    return fits and min(kernel.shape[2:]) >= FEWEST_MAPS


def convolve(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """x [rows, height, width, maps] with kernel [3, 3, maps, filters]; windows start at -padding.

    The gradient keeps x and the kernel alone, as that of other convolutions, and not the sums.
    """
    return _convolve(x, varying(kernel, x), padding)


def _plain(x, kernel, padding: int):
    height, width = (length + 2 * padding - 2 for length in x.shape[1:3])
    tiles = (-(-height // 2), -(-width // 2))
    sums = _of_tiles(x, tiles, padding)
    taps = _of_taps(kernel)
    products = [
        (tile.reshape(-1, tile.shape[-1]) @ tap).reshape(*tile.shape[:3], -1)
        for tile, tap in zip(sums, taps, strict=True)
    ]
    return _results(products)[:, :height, :width]


def _forward(x, kernel, padding):
    return _plain(x, kernel, padding), (x, kernel)


def _backward(padding, kept, gradient):
    return jax.vjp(lambda x, kernel: _plain(x, kernel, padding), *kept)[1](gradient)


_convolve = jax.custom_vjp(_plain, nondiff_argnums=(2,))
_convolve.defvjp(_forward, _backward)


def _of_tiles(x: jax.Array, tiles: tuple[int, int], padding: int) -> list[jax.Array]:
    """Sixteen [rows, tiles down, tiles across, maps]: a row of sums after the other.

    Tiles are 4 x 4 pixels, 2 apart, so that neighbours share half of theirs.
    """
    sides = [
        (padding, 2 * count + 2 - padding - length, 0)
        for count, length in zip(tiles, x.shape[1:3], strict=True)
    ]
    none = (0, 0, 0)
    padded = jax.lax.pad(x, jnp.zeros((), x.dtype), [none, *sides, none])

    def along(x: jax.Array, axis: int) -> list[jax.Array]:
        reach = 2 * tiles[axis - 1] - 1
        a, b, c, d = (jax.lax.slice_in_dim(x, i, i + reach, 2, axis) for i in range(4))
        return [a - c, b + c, c - b, b - d]

    return [both for down in along(padded, 1) for both in along(down, 2)]


def _of_taps(kernel: jax.Array) -> list[jax.Array]:
    """Sixteen [maps, filters] in the same order."""

    def along(a: jax.Array, b: jax.Array, c: jax.Array) -> list[jax.Array]:
        return [a, (a + b + c) / 2, (a - b + c) / 2, c]

    return [both for down in along(*kernel) for both in along(*down)]


def _results(products: list[jax.Array]) -> jax.Array:
    """[rows, 2 tiles down, 2 tiles across, filters] from the sixteen products."""

    def along(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> list[jax.Array]:
        return [a + b + c, b - c - d]

    # [rows, tile down, which of its rows, tile across, which of its columns, filters]
    across = [along(*products[4 * i : 4 * i + 4]) for i in range(4)]
    down = zip(*(along(*column) for column in zip(*across, strict=True)), strict=True)
    y = jnp.stack([jnp.stack(row, axis=3) for row in down], axis=2)
    return y.reshape(len(y), 2 * y.shape[1], 2 * y.shape[3], -1)
