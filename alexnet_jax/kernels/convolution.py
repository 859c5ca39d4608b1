"""Convolutions in other forms than that of jax.lax, equal up to rounding.

The arguments are those of ops.convolve: an input [batch, height, width, channels], a kernel
[height, width, channels, filters], and windows that start at -padding.
"""

import math

import jax
import jax.numpy as jnp

from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.model.ops import conv_output_length, convolve

_NARROW = 8  # channels; with more, zeros cost more than folding gains
_ROWS_AT_ONCE = 64  # that a bias's gradient adds up


def match_varying(value: jax.Array, other: jax.Array) -> jax.Array:
    """`value`, marked as different between devices where `other` is.

    jax requires this of a custom gradient within shard_map: the gradient of `value` then differs
    between devices too, and is summed over them. XLA removes the addition.
    """
    return value + jnp.zeros_like(other, shape=())


def match_both(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each as `match_varying` has it: both towers see the same image by kernels of their own."""
    return match_varying(x, kernel), match_varying(kernel, x)


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [..., filters] plus a bias for each filter.

    The bias's gradient is the sum over all other axes, here a product with ones, of many positions
    side by side: XLA on a CPU sums along an axis in a third of the speed, and a product with few
    columns reaches no more than half.
    """
    return _add_bias(y, match_varying(bias, y))


@jax.custom_vjp
def _add_bias(y, bias):
    return y + bias


def _add_bias_backward(_, gradient):
    gradient = materialize(gradient)
    positions = gradient.reshape(-1, gradient.shape[-1])
    if jax.default_backend() != "cpu":
        return gradient, positions.sum(0)
    count, filters = positions.shape
    wide = jnp.promote_types(positions.dtype, jnp.float32)
    side_by_side = positions.reshape(-1, math.gcd(count, _ROWS_AT_ONCE) * filters)
    ones = jnp.ones(side_by_side.shape[0], positions.dtype)
    total = jax.lax.dot(ones, side_by_side, preferred_element_type=wide)
    return gradient, total.reshape(-1, filters).sum(0).astype(positions.dtype)


_add_bias.defvjp(lambda y, bias: (_add_bias(y, bias), None), _add_bias_backward)


def convolve_folded(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, floor: bool = False
) -> jax.Array:
    """As ops.convolve, by a convolution of stride 1 after a space-to-depth transformation.

    Blocks of stride x stride pixels become channels: 11 x 11 windows of 3 channels with stride 4
    are 3 x 3 windows of 48 channels. The kernel is padded with zeros to whole blocks.
    """
    if stride == 1:
        return convolve(x, kernel, stride=stride, padding=padding, floor=floor)
    x_sides, kernel_sides = [], []
    for length, size in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        count = conv_output_length(length, size, stride=stride, padding=padding, floor=floor)
        blocks = -(-size // stride)
        x_sides.append((padding, (count - 1 + blocks) * stride - padding - length, 0))
        kernel_sides.append((0, blocks * stride - size, 0))
    none, zero = (0, 0, 0), jnp.zeros((), x.dtype)
    padded_x = jax.lax.pad(x, zero, [none, *x_sides, none])
    padded_kernel = jax.lax.pad(kernel, zero, [*kernel_sides, none, none])
    taps = _space_to_depth(jnp.moveaxis(padded_kernel, -1, 0), stride)
    return convolve(_space_to_depth(padded_x, stride), jnp.moveaxis(taps, 0, -1), floor=floor)


def convolve_folding_narrow(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, floor: bool = False
) -> jax.Array:
    """As convolve_folded where the input has few channels, which was faster on a GPU."""
    form = convolve_folded if x.shape[-1] < _NARROW else convolve
    return form(x, kernel, stride=stride, padding=padding, floor=floor)


def convolve_patches(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, floor: bool = False
) -> jax.Array:
    """As ops.convolve, by one matrix product with all windows written out ("im2col").

    Under vmap it stays one product with a batch axis.
    """
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


def convolve_padded(
    x: jax.Array, kernel: jax.Array, *, pad_height: int, pad_width: int
) -> jax.Array:
    """A convolution of stride 1 with so many zeros on both sides of the height and the width."""
    sides = [(pad_height, pad_height), (pad_width, pad_width)]
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """[n, height, width, channels] -> [n, height / block, width / block, block**2 * channels]."""
    count, height, width, channels = x.shape
    split = x.reshape(count, height // block, block, width // block, block, channels)
    blocks = split.transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(count, height // block, width // block, block * block * channels)
