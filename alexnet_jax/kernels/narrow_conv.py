"""Convolutions of stride 1 with few channels or filters, which XLA for CPUs computes slowly.

Several neighboring windows of a line become one that is a few pixels wider and has as many times
the filters. Two 5 x 5 windows at a time cost a fifth more multiplications, four cost three fifths
more, and it is faster all the same: by 1.3 to 2.1 in the layer that docs/performance.md names.

With the fewest channels (a network's first layer) all windows are written out, and the convolution
and its kernel's gradient are products with them: as a convolution, the gradient hardly gains from a
second core.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.kernels import convolution
from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.model.ops import conv_output_length

# Below these numbers XLA is slow; below the fewest, four windows at once beat two.
_CHANNELS, _FILTERS = 16, 32
_FEWEST_CHANNELS, _FEWEST_FILTERS = 6, 13
_MOST_AT_ONCE = 4
_FEW_CHANNELS = 8  # with fewer, the input's gradient is faster by `_by_columns`


def is_narrow(kernel: jax.Array) -> bool:
    """Whether `convolve_narrow` is faster with such a kernel: few channels or few filters."""
    return _at_once(*kernel.shape[2:]) > 1


def convolve_narrow(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """As ops.convolve with stride 1."""
    return _convolve(*convolution.match_both(x, kernel), padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, padding: int):
    return _forward(x, kernel, padding)[0]


def _forward(x, kernel, padding):
    """The result, and what its gradient needs: x, or all windows with the fewest channels."""
    if kernel.shape[2] >= _FEWEST_CHANNELS:
        at_once = _at_once(*kernel.shape[2:])
        y = _convolve_groups(x, kernel, pad_height=padding, pad_width=padding, at_once=at_once)
        return y, (x, kernel)
    windows = _write_out(x, kernel.shape, padding)
    y = windows.reshape(-1, windows.shape[-1]) @ _taps_of_written_out(kernel)
    y = y.reshape(*windows.shape[:2], -1, kernel.shape[3])
    count = conv_output_length(x.shape[2], kernel.shape[1], stride=1, padding=padding, floor=True)
    return y[:, :, :count], (windows, kernel)


def _backward(padding, residuals, gradient):
    x, kernel = residuals  # windows in the place of x with the fewest channels
    channels, filters = kernel.shape[2:]
    x_gradient = _x_gradient(gradient, kernel, padding)
    if channels < _FEWEST_CHANNELS:
        return x_gradient, _kernel_gradient_of_written_out(x, kernel, gradient)
    # With many filters the kernel's gradient is fastest by one window, whatever the channels.
    at_once = _at_once(channels, filters) if filters < _FILTERS else 1

    def by_kernel(taps):
        return _convolve_groups(x, taps, pad_height=padding, pad_width=padding, at_once=at_once)

    (kernel_gradient,) = jax.vjp(by_kernel, kernel)[1](gradient)
    return x_gradient, kernel_gradient


def _x_gradient(gradient, kernel, padding: int):
    """A convolution too, with the kernel rotated by half a turn."""
    size, _, channels, filters = kernel.shape
    around = size - 1 - padding
    if channels >= _FEW_CHANNELS:
        rotated = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
        at_once = _at_once(filters, channels)
        return _convolve_groups(
            gradient, rotated, pad_height=around, pad_width=around, at_once=at_once
        )
    sides = (length + 2 * around + 1 - size for length in gradient.shape[1:3])
    x = jnp.zeros_like(gradient, shape=(gradient.shape[0], *sides, channels))
    return jax.vjp(lambda x: _by_columns(x, kernel, padding), x)[1](gradient)[0]


def _kernel_gradient_of_written_out(windows, kernel, gradient):
    """The gradient of the kernel from the written-out windows, in two halves, one for each core."""
    room = windows.shape[2] * _MOST_AT_ONCE - gradient.shape[2]
    none = (0, 0, 0)
    gradient = jax.lax.pad(
        gradient, jnp.zeros((), gradient.dtype), [none, none, (0, room, 0), none]
    )
    halves = 1 + (windows.shape[0] % 2 == 0)
    windows = windows.reshape(halves, -1, windows.shape[3])
    filters = materialize(gradient).reshape(halves, -1, _MOST_AT_ONCE * kernel.shape[3])
    taps_gradient = jax.lax.dot_general(windows, filters, (((1,), (1,)), ((0,), (0,)))).sum(0)
    return jax.vjp(_taps_of_written_out, kernel)[1](taps_gradient)[0]


_convolve.defvjp(_forward, _backward)


def _at_once(channels: int, filters: int) -> int:
    """How many windows, of 1, 2 and 4, were fastest in most of the layers that were timed."""
    if channels < _FEWEST_CHANNELS or filters < _FEWEST_FILTERS:
        return _MOST_AT_ONCE
    return 2 if channels < _CHANNELS or filters < _FILTERS else 1


def convolve_pairs(
    x: jax.Array, kernel: jax.Array, *, pad_height: int, pad_width: int
) -> jax.Array:
    """As convolution.convolve_padded, two neighboring windows at once where filters are few."""
    at_once = 2 if kernel.shape[3] < _FILTERS else 1
    return _convolve_groups(x, kernel, pad_height=pad_height, pad_width=pad_width, at_once=at_once)


def _convolve_groups(x, kernel, *, pad_height: int, pad_width: int, at_once: int):
    """A convolution of stride 1 by `at_once` neighboring windows at a time.

    Lines are cut into blocks of `at_once` pixels, whose pixels become channels; a window over
    `held` blocks holds all windows that begin in the first one.
    """
    if at_once == 1:
        return convolution.convolve_padded(x, kernel, pad_height=pad_height, pad_width=pad_width)
    height, width, channels, filters = kernel.shape
    count = conv_output_length(x.shape[2], width, stride=1, padding=pad_width, floor=True)
    blocks, held = -(-count // at_once), -(-(width + at_once - 1) // at_once)
    room = (blocks + held - 1) * at_once
    none, zero = (0, 0, 0), jnp.zeros((), x.dtype)
    sides = (pad_width, room - pad_width - x.shape[2], 0)
    lines = jax.lax.pad(x, zero, [none, none, sides, none])
    lines = lines.reshape(*lines.shape[:2], room // at_once, at_once * channels)
    taps = _taps(kernel, at_once, held * at_once)
    taps = taps.reshape(height, held, at_once * channels, at_once * filters)
    y = convolution.convolve_padded(lines, taps, pad_height=pad_height, pad_width=0)
    return y.reshape(*y.shape[:2], blocks * at_once, filters)[:, :, :count]


def _taps(kernel, at_once: int, pixels: int):
    """The kernel at `at_once` neighboring places: [height, pixels, channels, at_once, filters]."""
    beyond = pixels - kernel.shape[1]
    windows = (
        jnp.pad(kernel, ((0, 0), (window, beyond - window), (0, 0), (0, 0)))
        for window in range(at_once)
    )
    return jnp.stack(list(windows), 3)


def _taps_of_written_out(kernel):
    """[pixels and channels of a window of `_write_out`, filters of the windows in it]."""
    taps = _taps(kernel, _MOST_AT_ONCE, kernel.shape[1] + _MOST_AT_ONCE - 1)
    return taps.reshape(-1, _MOST_AT_ONCE * kernel.shape[3])


def _write_out(x, kernel_shape, padding: int):
    """All windows, four neighbors in one: [batch, height, width / 4, pixels and channels].

    A gather of whole lines, since XLA takes two to four times as long to put slices together.
    """
    height, width, channels, _ = kernel_shape
    rows, columns = (
        conv_output_length(length, size, stride=1, padding=padding, floor=True)
        for length, size in zip(x.shape[1:3], kernel_shape[:2], strict=True)
    )
    blocks, held = -(-columns // _MOST_AT_ONCE), width + _MOST_AT_ONCE - 1
    room = (blocks - 1) * _MOST_AT_ONCE + held - padding - x.shape[2]
    none, zero = (0, 0, 0), jnp.zeros((), x.dtype)
    padded = jax.lax.pad(x, zero, [none, (padding, padding, 0), (padding, room, 0), none])
    padded = materialize(padded.reshape(*padded.shape[:2], -1))
    # Where each line of a window begins: [rows, blocks, height, 2].
    tops = np.arange(rows)[:, None, None] + np.arange(height)
    lefts = np.arange(blocks)[:, None] * _MOST_AT_ONCE * channels
    starts = np.stack(np.broadcast_arrays(tops, lefts), axis=-1).astype(np.int32)
    axes = jax.lax.GatherDimensionNumbers(
        offset_dims=(0, 4), collapsed_slice_dims=(1,), start_index_map=(1, 2)
    )
    sizes = (x.shape[0], 1, held * channels)
    lines = jax.lax.gather(padded, jnp.asarray(starts), axes, sizes, mode="promise_in_bounds")
    return materialize(lines).reshape(x.shape[0], rows, blocks, -1)


def _by_columns(x, kernel, padding: int):
    """A convolution with the columns of a window written out as channels."""
    height, width, channels, filters = kernel.shape
    count = conv_output_length(x.shape[2], width, stride=1, padding=padding, floor=True)
    padded = jnp.pad(x, ((0, 0), (0, 0), (padding, padding), (0, 0)))
    columns = jnp.concatenate([padded[:, :, i : i + count] for i in range(width)], axis=-1)
    taps = kernel.reshape(height, 1, width * channels, filters)
    return convolution.convolve_padded(columns, taps, pad_height=padding, pad_width=0)
