"""Convolutions of [rows, height, width, maps] with kernels [height, width, maps, filters].

One function in several forms, equal up to rounding. Windows start at -padding.
"""

import math

import jax
import jax.numpy as jnp

from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.model.ops import conv_output_length, convolve

_FEW = 8  # maps; with more, zeros cost more than folding gains
_BESIDE = 64  # rows that a bias's gradient adds up at once


def varying(value: jax.Array, other: jax.Array) -> jax.Array:
    """A value as one that differs between devices where the other does.

    Then its gradient may, as jax requires of a gradient of our own within shard_map, and is summed
    over devices. XLA takes the addition out.
    """
    return value + jnp.zeros_like(other, shape=())


def match_varying(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each as `varying` with the other: both towers see the same image by kernels of their own."""
    return varying(x, kernel), varying(kernel, x)


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [..., filters] plus a bias for each filter.

    The bias's gradient is a product with ones, of many rows beside each other: XLA on a CPU adds up
    rows in a third of the speed, and a product of few filters has no more than half.
    """
    return _add_bias(y, varying(bias, y))


@jax.custom_vjp
def _add_bias(y, bias):
    return y + bias


def _add_bias_backward(_, gradient):
    gradient = materialize(gradient)
    rows = gradient.reshape(-1, gradient.shape[-1])
    if jax.default_backend() != "cpu":
        return gradient, rows.sum(0)
    wide = jnp.promote_types(rows.dtype, jnp.float32)
    beside = rows.reshape(-1, math.gcd(rows.shape[0], _BESIDE) * rows.shape[1])
    ones = jnp.ones(beside.shape[0], rows.dtype)
    total = jax.lax.dot(ones, beside, preferred_element_type=wide)
    return gradient, total.reshape(-1, rows.shape[1]).sum(0).astype(rows.dtype)


_add_bias.defvjp(lambda y, bias: (_add_bias(y, bias), None), _add_bias_backward)


def convolve_folded(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, floor: bool = False
) -> jax.Array:
    """With stride 1, after stride x stride pixels have become as many times the maps.

    11 x 11 windows of 3 maps, 4 apart, are 3 x 3 windows of 48 maps ("space to depth"): the kernel
    is filled up with zeros to whole blocks.
    """
    if stride == 1:
        return convolve(x, kernel, stride=stride, padding=padding, floor=floor)
    x_sides, kernel_sides = [], []
    for length, size in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        count, blocks = (
            conv_output_length(length, size, stride=stride, padding=padding, floor=floor),
            -(-size // stride),
        )
        x_sides.append((padding, (count - 1 + blocks) * stride - padding - length, 0))
        kernel_sides.append((0, blocks * stride - size, 0))
    none, zero = (0, 0, 0), jnp.zeros((), x.dtype)
    rows = jax.lax.pad(x, zero, [none, *x_sides, none])
    filled = jax.lax.pad(kernel, zero, [*kernel_sides, none, none])
    taps = _folded(jnp.moveaxis(filled, -1, 0), stride)
    return convolve(_folded(rows, stride), jnp.moveaxis(taps, 0, -1), floor=floor)


def convolve_folding_narrow(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, floor: bool = False
) -> jax.Array:
    """Folded if it has few maps, where that was measured."""
    form = convolve_folded if x.shape[-1] < _FEW else convolve
    return form(x, kernel, stride=stride, padding=padding, floor=floor)


def convolve_patches(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, floor: bool = False
) -> jax.Array:
    """As a matrix product with all windows written out, which may have a batch axis."""
    height, width = kernel.shape[:2]
    counts, sides = [], []
    for length, size in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        count = conv_output_length(length, size, stride=stride, padding=padding, floor=floor)
        counts.append((count - 1) * stride + 1)
        sides.append((padding, counts[-1] + size - 1 - padding - length, 0))
    none = (0, 0, 0)
    padded = jax.lax.pad(x, jnp.zeros((), x.dtype), [none, *sides, none])
    taps = [
        padded[:, top : top + counts[0] : stride, left : left + counts[1] : stride]
        for top in range(height)
        for left in range(width)
    ]
    windows = jnp.concatenate(taps, axis=-1)
    return windows @ kernel.reshape(math.prod(kernel.shape[:3]), -1)


def windows(x: jax.Array, kernel: jax.Array, above: int, left: int) -> jax.Array:
    """With stride 1 and zeros: so many rows above and below, so many columns left and right."""
    sides = [(above, above), (left, left)]
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _folded(x: jax.Array, block: int) -> jax.Array:
    """[n, height, width, maps] -> [n, height / block, width / block, block * block * maps]."""
    count, height, width, maps = x.shape
    split = x.reshape(count, height // block, block, width // block, block, maps)
    blocks = split.transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(count, height // block, width // block, block * block * maps)
