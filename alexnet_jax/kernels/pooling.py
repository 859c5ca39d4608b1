"""Pooling with cuda-convnet's rule: the last window may hang over the edge and is clipped there.

Both kinds have a custom backward pass, since XLA's are slow on CPUs. XLA's for max-pooling, a
select-and-scatter, is also refused in its deterministic mode on GPUs; this one needs no scatter
and gives the same: the gradient goes to the first maximum of each window.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.model import ops


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x, size: int, stride: int):
    """As ops.max_pool; the gradient, to the first maximum of a window, needs no scatter."""
    if jax.default_backend() != "cpu":
        return ops.max_pool(x, size, stride)
    return functools.reduce(jnp.maximum, _pixels_of_windows(x, size, stride))


def _max_pool_forward(x, size, stride):
    """Keeps for each window the place of the first maximum, counted line by line.

    The place is size * size where no pixel equals the maximum, as with NaN.
    """
    pixels = _pixels_of_windows(x, size, stride)
    if jax.default_backend() != "cpu":
        y = ops.max_pool(x, size, stride)
    else:
        y = materialize(functools.reduce(jnp.maximum, pixels))
    place = jnp.full(y.shape, len(pixels), jnp.uint8 if len(pixels) < 256 else jnp.int32)
    for number, pixel in reversed(list(enumerate(pixels))):
        place = jnp.where(pixel == y, jnp.asarray(number, place.dtype), place)
    return y, (place, x.shape[1:3])


def _pixels_of_windows(x: jax.Array, size: int, stride: int) -> list[jax.Array]:
    """The first pixel of every window, the second one, ...; -inf beyond the edge."""
    reaches = [
        (ops.pool_output_length(length, size, stride) - 1) * stride for length in x.shape[1:3]
    ]
    padded = x
    for axis in (1, 2):
        padded = _resized(padded, axis, reaches[axis - 1] + size, -np.inf)
    padded = materialize(padded)
    return [
        padded[:, i : i + reaches[0] + 1 : stride, j : j + reaches[1] + 1 : stride]
        for i, j in np.ndindex(size, size)
    ]


def _max_pool_backward(size, stride, residuals, gradient):
    """The gradient of a pixel, from those of the windows that hold it.

    Pixel (stride u + a, stride v + b) is the pixel (a + stride m, b + stride n) of the windows
    (u - m, v - n). So its gradient is a sum of a few gradients of windows, each moved by (m, n) and
    masked to where that pixel is the first maximum.
    """
    place, lengths = residuals
    if jax.default_backend() == "cpu":
        whole = _by_moves(place, gradient, size, stride)
    else:
        whole = _by_classes(place, gradient, size, stride)
    # [batch, u, a, v, b, channels] is [batch, stride u + a, stride v + b, channels].
    sides = whole.shape[1] * stride, whole.shape[3] * stride
    whole = whole.reshape(len(gradient), *sides, gradient.shape[3])
    for axis in (1, 2):  # cut what hangs over the edge; zeros where no window reaches
        whole = _resized(whole, axis, lengths[axis - 1], 0)
    return (whole,)


def _by_moves(place, gradient, size: int, stride: int):
    """One (m, n) after the other, for all pixels: no branches, so that a CPU vectorizes it."""
    reach, none = (size - 1) // stride, size * size
    sides = [(0, 0, 0), (reach, reach, 0), (reach, reach, 0), (0, 0, 0)]
    places = jax.lax.pad(place, jnp.asarray(none, place.dtype), sides)
    gradients = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), sides)
    places, gradients = materialize((places, gradients))

    def number(i, j):
        return i * size + j if max(i, j) < size else none + 1

    def moved(x, m, n):  # [batch, u, 1, v, 1, channels]
        height, width = x.shape[1] - reach, x.shape[2] - reach
        return x[:, reach - m :][:, :height, None, reach - n :][:, :, :, :width, None]

    total: jax.Array | int = 0
    for m, n in np.ndindex(reach + 1, reach + 1):
        numbers = [
            [number(a + stride * m, b + stride * n) for b in range(stride)] for a in range(stride)
        ]
        here = moved(places, m, n) == jnp.asarray(numbers, place.dtype)[:, None, :, None]
        total += jnp.where(here, moved(gradients, m, n), jnp.zeros((), gradient.dtype))
    return total


def _by_classes(place, gradient, size: int, stride: int):
    """One (a, b) at a time, then interleaved: faster on a GPU."""
    classes: dict[tuple[int, int], list[tuple[int, int, jax.Array]]] = {}
    for number, (i, j) in enumerate(np.ndindex(size, size)):
        masked = jnp.where(place == number, gradient, jnp.zeros((), gradient.dtype))
        classes.setdefault((i % stride, j % stride), []).append((i // stride, j // stride, masked))
    reach = (size - 1) // stride
    parts = [
        [_shifted_sum(classes.get((a, b), []), gradient, reach) for b in range(stride)]
        for a in range(stride)
    ]
    return jnp.stack([jnp.stack(row, axis=3) for row in parts], axis=2)


def _shifted_sum(parts: list, like: jax.Array, reach: int) -> jax.Array:
    """Sum of [batch, h, w, channels] moved down and right by (m, n): [batch, h + reach, ...]."""
    batch, height, width, channels = like.shape
    total = jnp.zeros((batch, height + reach, width + reach, channels), like.dtype)
    for m, n, part in parts:
        total += jnp.pad(part, ((0, 0), (m, reach - m), (n, reach - n), (0, 0)))
    return total


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def average_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """As ops.average_pool, with the gradient as a sum over the windows of a pixel."""
    return _average_pool(x, size, stride, x.shape[1:3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _average_pool(x, size: int, stride: int, lengths: tuple[int, int]):
    return ops.average_pool(x, size, stride)


def _average_pool_forward(x, size, stride, lengths):
    return ops.average_pool(x, size, stride), None


def _average_pool_backward(size, stride, lengths, _, gradient):
    """Each pixel's gradient is the sum of those of its windows: along lines, then along columns.

    Along an axis pixel stride u + a is the pixel a + stride m of the windows u - m.
    """
    shares = gradient / ops.window_pixels(lengths, size, stride, gradient.dtype)
    reach = (size - 1) // stride
    for axis in (2, 1):
        nothing = jnp.zeros_like(_padded_by(shares, axis, 0, reach))
        classes = [
            sum(
                (_padded_by(shares, axis, i // stride, reach) for i in range(a, size, stride)),
                nothing,
            )
            for a in range(stride)
        ]
        # [..., u, a, ...] is [..., stride u + a, ...]
        whole = jnp.stack(classes, axis + 1)
        sides = (*whole.shape[:axis], -1, *whole.shape[axis + 2 :])
        shares = _resized(whole.reshape(sides), axis, lengths[axis - 1], 0)
    return (shares,)


_average_pool.defvjp(_average_pool_forward, _average_pool_backward)


def _padded_by(x: jax.Array, axis: int, before: int, reach: int) -> jax.Array:
    """With `before` zeros before an axis and the rest of `reach` after it."""
    sides = [(0, 0)] * x.ndim
    sides[axis] = (before, reach - before)
    return jnp.pad(x, sides)


def _resized(x: jax.Array, axis: int, length: int, value: float) -> jax.Array:
    """Cut off an axis at `length`, or fill it up with `value`."""
    sides = [(0, 0, 0)] * x.ndim
    sides[axis] = (0, length - x.shape[axis], 0)  # a negative one cuts
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), sides)
