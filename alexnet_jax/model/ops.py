"""The operations of a network in plain jax.lax: what the paper and the 2012 source say, no more.

Arrays are [batch, height, width, channels] of one tower unless said otherwise. `Operations`
collects them, so that `kernels` can put a faster function of the same arguments in the place of
each.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

Params = dict[str, jax.Array]  # parameters of one layer


def conv_output_length(
    length: int, size: int, *, stride: int, padding: int, floor: bool = False
) -> int:
    """Windows along one side: 1 + ceil((2 padding + length - size) / stride), or its floor.

    The ceiling is cuda-convnet's (layer.py, 2012): at 224 pixels it turns conv1 into 55 x 55, with
    what is missing at the bottom and right as zero. Caffe, PyTorch and ONNX take the floor.
    """
    room = 2 * padding + length - size
    return 1 + (room // stride if floor else -(-room // stride))


def pool_output_length(length: int, size: int, stride: int, floor: bool = False) -> int:
    """Windows along one side: 1 + ceil((length - size) / stride), or its floor.

    The ceiling is cuda-convnet's (layer.py, 2012), by which one window is there at least.
    """
    if floor:
        return 1 + (length - size) // stride
    return 1 - (size - length) // stride if length > size else 1


def convolve(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, floor: bool = False
) -> jax.Array:
    """Convolution with a kernel [height, width, channels, filters]; windows start at -padding."""
    sides = []
    for length, size in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        count = conv_output_length(length, size, stride=stride, padding=padding, floor=floor)
        sides.append((padding, (count - 1) * stride + size - padding - length))
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolve_local(x: jax.Array, kernel: jax.Array, *, size: int, padding: int) -> jax.Array:
    """Like `convolve`, with a kernel for each position: [height, width, inputs, filters].

    The inputs of a window are size * size * channels, one channel after the other.

    Source: layer type `local` of cuda-convnet (LocalUnsharedLayerParser).
    """
    return jax.lax.conv_general_dilated_local(
        x,
        kernel,
        window_strides=(1, 1),
        padding=[(padding, padding)] * 2,
        filter_shape=(size, size),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [..., filters] plus a bias for each filter."""
    return y + bias


def relu(x: jax.Array) -> jax.Array:
    """max(0, x), with gradient 0 at 0 as in the 2012 source (paper section 3.1)."""
    return jax.nn.relu(x)


def max_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Maximum over size x size windows, `stride` apart (paper section 3.4: 3 and 2).

    The last window may reach over the edge and is clipped there. The gradient goes to the first
    maximum of a window.
    """
    return _reduce_windows(x, jax.lax.max, -np.inf, size, stride)


def average_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Mean over size x size windows; a window clipped at the edge divides by its pixels inside."""
    total = _reduce_windows(x, jax.lax.add, 0, size, stride)
    return total / window_pixels(x.shape[1:3], size, stride, x.dtype)


def in_whole_windows(x: jax.Array, size: int, stride: int) -> jax.Array:
    """`x` without the pixels at the bottom and right that no whole window has."""
    height, width = (n - (n - size) % stride for n in x.shape[1:3])
    return x[:, :height, :width]


def average_to(x: jax.Array, height: int, width: int) -> jax.Array:
    """Means over height x width regions of equal size, [batch, height, width, channels].

    Region i of n over a side of `length` goes from floor(i length / n) to ceil((i + 1) length / n):
    PyTorch's AdaptiveAvgPool2d, which stands before fc6 in torchvision's AlexNet.
    """
    for axis, count in ((1, height), (2, width)):
        length = x.shape[axis]
        if length == count:
            continue
        starts = np.arange(count) * length // count
        ends = -(-np.arange(1, count + 1) * length // count)
        pixels = np.arange(length)
        regions = (starts[:, None] <= pixels) & (pixels < ends[:, None])
        means = jnp.asarray(regions / regions.sum(axis=1, keepdims=True), x.dtype)
        x = jnp.moveaxis(
            jnp.tensordot(means, x, (1, axis), precision=jax.lax.Precision.HIGHEST), 0, axis
        )
    return x


def _reduce_windows(x: jax.Array, operation, initial: float, size: int, stride: int) -> jax.Array:
    start = np.array(initial, x.dtype)  # a constant: jax differentiates only such windows
    overhang = [
        (0, max(0, (pool_output_length(n, size, stride) - 1) * stride + size - n))
        for n in x.shape[1:3]
    ]
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    padding = ((0, 0), *overhang, (0, 0))
    return jax.lax.reduce_window(x, start, operation, window, strides, padding)


def window_pixels(lengths: Sequence[int], size: int, stride: int, dtype) -> jax.Array:
    """How many pixels of each pooling window lie inside the image, [height, width, 1]."""
    counts = []
    for length in lengths:
        starts = np.arange(pool_output_length(length, size, stride)) * stride
        counts.append(np.minimum(starts + size, length) - starts)
    return jnp.asarray(np.multiply.outer(*counts)[:, :, None], dtype)


def response_norm(
    towers: Sequence[jax.Array], n: int, *, k: float, alpha: float, beta: float
) -> list[jax.Array]:
    """Divide by (k + alpha * sum of squares over n adjacent channels) ** beta (paper section 3.3).

    `towers` is one array, or those of adjacent towers, whose windows then reach into the next tower
    (Caffe). `alpha` multiplies the plain sum. Windows are cut at the first and last channel and
    alpha is not rescaled there; for an even `n` the extra channel is on the low side. Source:
    kernel kFCNorm of cuda-convnet, used by layers-145.cfg.
    """
    joined = jnp.concatenate(list(towers), axis=-1)
    wide = widen(joined)
    low, high = window_reach(n)
    padded = jnp.pad(wide**2, ((0, 0), (0, 0), (0, 0), (low, high)))
    denominator = k + alpha * shifted_sums(padded, 3, n)
    result = (wide * denominator**-beta).astype(joined.dtype)
    return jnp.split(result, len(towers), axis=-1)


def spatial_norm(x: jax.Array, n: int, *, k: float, alpha: float, beta: float) -> jax.Array:
    """Divide by (k + alpha * sum of squares over an n x n window of the same channel) ** beta.

    `alpha` multiplies the plain sum; pixels outside the image count as zero and alpha is not
    rescaled there. Source: layer type `rnorm` of cuda-convnet, layer `cnorm2` of layers-145.cfg.
    """
    wide = widen(x)
    return (wide * (k + alpha * spatial_sums(wide**2, n)) ** -beta).astype(x.dtype)


def contrast_norm(x: jax.Array, n: int, *, k: float, alpha: float, beta: float) -> jax.Array:
    """As `spatial_norm`, but with squares of the differences from the mean of the n x n window.

    The mean is over the pixels inside the image; what is divided is x itself, not the difference.
    Source: layer type `cnorm` of cuda-convnet, used by the networks before net 137.
    """
    wide = widen(x)
    counts = spatial_sums(jnp.ones_like(wide[:1, :, :, :1]), n)
    squares = (wide - spatial_sums(wide, n) / counts) ** 2
    return (wide * (k + alpha * spatial_sums(squares, n)) ** -beta).astype(x.dtype)


def dropout_mask(keys: jax.Array, shape: Sequence[int], keep: float) -> jax.Array:
    """Boolean [batch, *shape], true with probability `keep`; example i's is drawn from keys[i]."""
    units = math.prod(shape)
    if keep == 0.5:  # each bit of a random word is a fair coin: 32 masks for one draw
        words = jax.vmap(lambda key: jax.random.bits(key, (-(-units // 32),), jnp.uint32))(keys)
        coins = (words[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
        mask = coins.reshape(words.shape[0], -1)[:, :units].astype(bool)
    else:
        draw = lambda key: jax.random.bernoulli(key, jnp.float32(keep), (units,))  # noqa: E731
        mask = jax.vmap(draw)(keys)
    return mask.reshape(-1, *shape)


def widen(x: jax.Array) -> jax.Array:
    """x as float32 or wider: bfloat16 cannot hold 2 + 1e-5, so sums and powers are not in it."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def window_reach(n: int) -> tuple[int, int]:
    """How many neighbours a window of n has before and after its own place."""
    return n // 2, n - 1 - n // 2


def spatial_sums(x: jax.Array, n: int) -> jax.Array:
    """Sums over n x n windows, one at each pixel; zero beyond the edge."""
    low, high = window_reach(n)
    padded = jnp.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))
    return shifted_sums(shifted_sums(padded, 1, n), 2, n)


def shifted_sums(padded: jax.Array, axis: int, n: int) -> jax.Array:
    """Sums of n neighbours along an axis, which becomes n - 1 shorter."""
    length = padded.shape[axis] - n + 1
    slices = [jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(n)]
    return sum(slices[1:], slices[0])


def convolution_of_towers(
    layer, towers: list[jax.Array], params: Params, image, ops
) -> list[jax.Array]:
    """A convolution in each tower: `towers` are their inputs, `params` are [towers, ...].

    `layer` is a layers.Convolution, `image` the network's input, `ops` the Operations in use.
    """
    return [
        layer(x, {kind: value[tower] for kind, value in params.items()}, image, ops)
        for tower, x in enumerate(towers)
    ]


def dense_of_towers(towers: list[jax.Array], params: Params) -> list[jax.Array]:
    """A fully connected layer in each tower, on the flattened input (height, width, channels)."""
    return [
        x.reshape(x.shape[0], -1) @ params["kernel"][tower] + params["bias"][tower]
        for tower, x in enumerate(towers)
    ]


def logits_of_towers(towers: list[jax.Array], kernel: jax.Array) -> jax.Array:
    """Logits [batch, classes] without bias, float32 or wider: a sum over the towers.

    `kernel` is [towers, inputs, classes].
    """
    partial = [matmul_widened(x, kernel[tower]) for tower, x in enumerate(towers)]
    return sum(partial[1:], partial[0])


def matmul_widened(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Flattened x times a kernel [inputs, classes], float32 or wider."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.matmul(x.reshape(x.shape[0], -1), kernel, preferred_element_type=wide)


def has_nonfinite(x: jax.Array) -> jax.Array:
    """Whether any number of x is infinite or NaN."""
    return ~jnp.isfinite(x).all()


def materialize(arrays):
    """The same arrays. A kernel may make the compiler write them to memory here."""
    return arrays


@dataclasses.dataclass(frozen=True)
class Operations:
    """The functions that a network and its training step compute with.

    The defaults are the reference: plain operations. `kernels.select` returns faster ones, each
    with the arguments and, up to rounding, the results of the function that it replaces.
    """

    convolve: Callable = convolve
    add_bias: Callable = add_bias
    relu: Callable = relu
    max_pool: Callable = max_pool
    average_pool: Callable = average_pool
    response_norm: Callable = response_norm
    spatial_norm: Callable = spatial_norm
    contrast_norm: Callable = contrast_norm
    convolution_of_towers: Callable = convolution_of_towers
    dense_of_towers: Callable = dense_of_towers
    logits_of_towers: Callable = logits_of_towers
    has_nonfinite: Callable = has_nonfinite
    materialize: Callable = materialize


REFERENCE = Operations()
