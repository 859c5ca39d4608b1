"""Convolutions of few maps or filters, 1 apart, made for XLA on CPUs, whose own are slow there.

Several windows beside each other are one, of pixels folded by as many, with as many times the
filters. For two at a time it has a fifth more to multiply in rows of 5 x 5 windows, for four three
fifths, and is faster all the same: by 1.3 to 2.1 in the layer that docs/performance.md names.
"""

import functools

import jax
import jax.numpy as jnp

from alexnet_jax.model import convolution

# Below these XLA is slow; below the fewest, four windows at once beat two.
_MAPS, _FILTERS = 16, 32
_FEWEST_MAPS, _FEWEST_FILTERS = 6, 13
_FEW_COLUMNS = 8  # maps with fewer have a faster gradient, by columns


def is_worth_it(x: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Whether `convolve` is meant for such a convolution: 1 apart, few maps or few filters."""
    return stride == 1 and _at_once(*kernel.shape[2:]) > 1


def convolve(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """x [rows, height, width, maps], kernel [r, r, maps, filters]; windows start at -padding."""
    return _convolve(x, convolution.varying(kernel, x), padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, padding: int):
    return _beside(x, kernel, padding, padding, _at_once(*kernel.shape[2:]))


def _forward(x, kernel, padding):
    return _convolve(x, kernel, padding), (x, kernel)


def _backward(padding, kept, gradient):
    """That of x is a convolution too, with the kernel turned round."""
    x, kernel = kept
    size, _, maps, filters = kernel.shape
    # Of many filters the gradient of the kernel is fastest by one window, whatever the maps.
    at_once = _at_once(maps, filters) if filters < _FILTERS else 1
    (by_kernel,) = jax.vjp(lambda taps: _beside(x, taps, padding, padding, at_once), kernel)[1](
        gradient
    )
    if maps < _FEW_COLUMNS:
        (by_x,) = jax.vjp(lambda x: _by_columns(x, kernel, padding), x)[1](gradient)
    else:
        turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
        around = size - 1 - padding
        by_x = _beside(gradient, turned, around, around, _at_once(filters, maps))
    return by_x, by_kernel


_convolve.defvjp(_forward, _backward)


def _at_once(maps: int, filters: int) -> int:
    """How many windows, of 1, 2 and 4, were fastest in most of the layers that were timed."""
    if maps < _FEWEST_MAPS or filters < _FEWEST_FILTERS:
        return 4
    return 2 if maps < _MAPS or filters < _FILTERS else 1


def in_pairs(x: jax.Array, kernel: jax.Array, above: int, left: int) -> jax.Array:
    """As convolution.windows, two beside each other at once where filters are few."""
    return _beside(x, kernel, above, left, 2 if kernel.shape[3] < _FILTERS else 1)


def _beside(x, kernel, above: int, left: int, at_once: int):
    """`at_once` windows at a time: a window of the image's blocks holds them all."""
    if at_once == 1:
        return convolution.windows(x, kernel, above, left)
    height, width, maps, filters = kernel.shape
    count = convolution.convolved_length(x.shape[2], width, 1, left, True)
    blocks, held = -(-count // at_once), -(-(width + at_once - 1) // at_once)
    room = (blocks + held - 1) * at_once
    none, zero = (0, 0, 0), jnp.zeros((), x.dtype)
    sides = (left, room - left - x.shape[2], 0)
    rows = jax.lax.pad(x, zero, [none, none, sides, none])
    rows = rows.reshape(*rows.shape[:2], room // at_once, at_once * maps)
    taps = [
        jnp.pad(kernel, ((0, 0), (window, held * at_once - width - window), (0, 0), (0, 0)))
        for window in range(at_once)
    ]
    taps = jnp.stack(taps, 3).reshape(height, held, at_once * maps, at_once * filters)
    y = convolution.windows(rows, taps, above, 0)
    return y.reshape(*y.shape[:2], blocks * at_once, filters)[:, :, :count]


def _by_columns(x, kernel, padding: int):
    """With a window's columns written out as maps."""
    height, width, maps, filters = kernel.shape
    count = convolution.convolved_length(x.shape[2], width, 1, padding, True)
    padded = jnp.pad(x, ((0, 0), (0, 0), (padding, padding), (0, 0)))
    columns = jnp.concatenate([padded[:, :, i : i + count] for i in range(width)], axis=-1)
    taps = kernel.reshape(height, 1, width * maps, filters)
    return convolution.windows(columns, taps, padding, 0)
