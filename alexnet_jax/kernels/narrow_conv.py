"""Convolutions of few maps or filters, 1 apart, made for XLA on CPUs, whose own are slow there.

Several windows beside each other are one, a few pixels wider, with as many times the filters. For
two at a time it has a fifth more to multiply in rows of 5 x 5 windows, for four three fifths, and
is faster all the same: by 1.3 to 2.1 in the layer that docs/performance.md names.

Of the fewest maps, a network's first layer, all windows are written out, and products with them are
the convolution and its kernel's gradient. The latter as a convolution hardly gains from a second
core.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.kernels import convolution
from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.model.ops import conv_output_length

# Below these XLA is slow; below the fewest, four windows at once beat two.
_MAPS, _FILTERS = 16, 32
_FEWEST_MAPS, _FEWEST_FILTERS = 6, 13
_MOST_AT_ONCE = 4
_FEW_COLUMNS = 8  # maps with fewer have a faster gradient, by columns


def is_worth_it(kernel: jax.Array) -> bool:
    """Whether `convolve` is meant for such a convolution: 1 apart, few maps or few filters."""
    return _at_once(*kernel.shape[2:]) > 1


def convolve(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """x [rows, height, width, maps], kernel [r, r, maps, filters]; windows start at -padding."""
    return _convolve(*convolution.match_varying(x, kernel), padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, padding: int):
    return _forward(x, kernel, padding)[0]


def _forward(x, kernel, padding):
    """The result, and what its gradient needs: all windows of the fewest maps, else x."""
    if kernel.shape[2] >= _FEWEST_MAPS:
        at_once = _at_once(*kernel.shape[2:])
        return _beside(x, kernel, padding, padding, at_once), (x, kernel)
    windows = _written_out(x, kernel.shape, padding)
    y = windows.reshape(-1, windows.shape[-1]) @ _taps_of_all(kernel)
    y = y.reshape(*windows.shape[:2], -1, kernel.shape[3])
    count = conv_output_length(x.shape[2], kernel.shape[1], stride=1, padding=padding, floor=True)
    return y[:, :, :count], (windows, kernel)


def _backward(padding, kept, gradient):
    """That of x is a convolution too, with the kernel turned round."""
    x, kernel = kept
    maps, filters = kernel.shape[2:]
    by_x = _by_x(gradient, kernel, padding)
    if maps < _FEWEST_MAPS:
        return by_x, _by_kernel_of_all(x, kernel, gradient)
    # Of many filters the gradient of the kernel is fastest by one window, whatever the maps.
    at_once = _at_once(maps, filters) if filters < _FILTERS else 1
    (by_kernel,) = jax.vjp(lambda taps: _beside(x, taps, padding, padding, at_once), kernel)[1](
        gradient
    )
    return by_x, by_kernel


def _by_x(gradient, kernel, padding: int):
    size, _, maps, filters = kernel.shape
    around = size - 1 - padding
    if maps >= _FEW_COLUMNS:
        turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
        return _beside(gradient, turned, around, around, _at_once(filters, maps))
    sides = (length + 2 * around + 1 - size for length in gradient.shape[1:3])
    x = jnp.zeros_like(gradient, shape=(gradient.shape[0], *sides, maps))
    return jax.vjp(lambda x: _by_columns(x, kernel, padding), x)[1](gradient)[0]


def _by_kernel_of_all(windows, kernel, gradient):
    """The gradient of the kernel from all windows, in two halves, one for each core."""
    room = windows.shape[2] * _MOST_AT_ONCE - gradient.shape[2]
    none = (0, 0, 0)
    gradient = jax.lax.pad(
        gradient, jnp.zeros((), gradient.dtype), [none, none, (0, room, 0), none]
    )
    halves = 1 + (windows.shape[0] % 2 == 0)
    rows = windows.reshape(halves, -1, windows.shape[3])
    filters = materialize(gradient).reshape(halves, -1, _MOST_AT_ONCE * kernel.shape[3])
    by_taps = jax.lax.dot_general(rows, filters, (((1,), (1,)), ((0,), (0,)))).sum(0)
    return jax.vjp(_taps_of_all, kernel)[1](by_taps)[0]


_convolve.defvjp(_forward, _backward)


def _at_once(maps: int, filters: int) -> int:
    """How many windows, of 1, 2 and 4, were fastest in most of the layers that were timed."""
    if maps < _FEWEST_MAPS or filters < _FEWEST_FILTERS:
        return _MOST_AT_ONCE
    return 2 if maps < _MAPS or filters < _FILTERS else 1


def in_pairs(x: jax.Array, kernel: jax.Array, above: int, left: int) -> jax.Array:
    """As convolution.windows, two beside each other at once where filters are few."""
    return _beside(x, kernel, above, left, 2 if kernel.shape[3] < _FILTERS else 1)


def _beside(x, kernel, above: int, left: int, at_once: int):
    """`at_once` windows at a time: a window of the image's blocks holds them all."""
    if at_once == 1:
        return convolution.windows(x, kernel, above, left)
    height, width, maps, filters = kernel.shape
    count = conv_output_length(x.shape[2], width, stride=1, padding=left, floor=True)
    blocks, held = -(-count // at_once), -(-(width + at_once - 1) // at_once)
    room = (blocks + held - 1) * at_once
    none, zero = (0, 0, 0), jnp.zeros((), x.dtype)
    sides = (left, room - left - x.shape[2], 0)
    rows = jax.lax.pad(x, zero, [none, none, sides, none])
    rows = rows.reshape(*rows.shape[:2], room // at_once, at_once * maps)
    taps = _taps(kernel, at_once, held * at_once)
    taps = taps.reshape(height, held, at_once * maps, at_once * filters)
    y = convolution.windows(rows, taps, above, 0)
    return y.reshape(*y.shape[:2], blocks * at_once, filters)[:, :, :count]


def _taps(kernel, at_once: int, pixels: int):
    """Those of `at_once` windows beside each other: [height, pixels, maps, at_once, filters]."""
    beyond = pixels - kernel.shape[1]
    windows = (
        jnp.pad(kernel, ((0, 0), (window, beyond - window), (0, 0), (0, 0)))
        for window in range(at_once)
    )
    return jnp.stack(list(windows), 3)


def _taps_of_all(kernel):
    """[pixels and maps of a window of `_written_out`, its windows' filters]."""
    taps = _taps(kernel, _MOST_AT_ONCE, kernel.shape[1] + _MOST_AT_ONCE - 1)
    return taps.reshape(-1, _MOST_AT_ONCE * kernel.shape[3])


def _written_out(x, kernel_shape, padding: int):
    """All windows, four beside each other in one: [rows, height, width / 4, pixels and maps].

    A gather of whole lines, since XLA takes two to four times as long to put slices together.
    """
    height, width, maps, _ = kernel_shape
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
    lefts = np.arange(blocks)[:, None] * _MOST_AT_ONCE * maps
    starts = np.stack(np.broadcast_arrays(tops, lefts), axis=-1).astype(np.int32)
    axes = jax.lax.GatherDimensionNumbers(
        offset_dims=(0, 4), collapsed_slice_dims=(1,), start_index_map=(1, 2)
    )
    sizes = (x.shape[0], 1, held * maps)
    lines = jax.lax.gather(padded, jnp.asarray(starts), axes, sizes, mode="promise_in_bounds")
    return materialize(lines).reshape(x.shape[0], rows, blocks, -1)


def _by_columns(x, kernel, padding: int):
    """With a window's columns written out as maps."""
    height, width, maps, filters = kernel.shape
    count = conv_output_length(x.shape[2], width, stride=1, padding=padding, floor=True)
    padded = jnp.pad(x, ((0, 0), (0, 0), (padding, padding), (0, 0)))
    columns = jnp.concatenate([padded[:, :, i : i + count] for i in range(width)], axis=-1)
    taps = kernel.reshape(height, 1, width * maps, filters)
    return convolution.windows(columns, taps, padding, 0)
