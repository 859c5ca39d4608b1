"""The kinds of layer that a network's list is made of.

A description is data: its fields are numbers, `filters` and `units` counted over all towers
together. Shapes are those of one row in one tower: (height, width, maps) or (units,).
Layers without parameters are called with the array of one tower; layers with a kernel are called
with the array, the kernel and the bias of one tower. The order and the meeting of towers is the
business of `network.py`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from alexnet_jax.model import normalization, pooling

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with one bias a filter, weights drawn from N(0, deviation), untruncated.

    The output has 1 + ceil((2 padding + length - size) / stride) positions a side; windows start
    at -padding, and what is missing at the bottom and right is zero (layer.py, 2012). At 224
    pixels this turns conv1 into 55 x 55.
    """

    name: str
    filters: int
    size: int
    stride: int = 1
    padding: int = 0
    deviation: float = 0.01
    bias: float = 0.0

    def output(self, shape: Shape, towers: int) -> Shape:
        sides = (self._length(length) for length in shape[:2])
        return (*sides, self.filters // towers)

    def kernel_shape(self, shape: Shape, towers: int) -> Shape:
        return (self.size, self.size, shape[2], self.filters // towers)

    def multiply_adds(self, shape: Shape, towers: int) -> int:
        height, width, _ = self.output(shape, towers)
        return height * width * math.prod(self.kernel_shape(shape, towers))

    def __call__(self, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        padding = [
            (self.padding, (self._length(n) - 1) * self.stride + self.size - self.padding - n)
            for n in x.shape[1:3]
        ]
        strides = (self.stride, self.stride)
        layout = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)
        return y + bias

    def _length(self, length: int) -> int:
        return 1 - (self.size - 2 * self.padding - length) // self.stride


@dataclasses.dataclass(frozen=True)
class Dense:
    """A fully connected layer on the flattened input (height, width, maps in this order)."""

    name: str
    units: int
    deviation: float = 0.01
    bias: float = 0.0

    def output(self, shape: Shape, towers: int) -> Shape:
        return (self.units // towers,)

    def kernel_shape(self, shape: Shape, towers: int) -> Shape:
        return (math.prod(shape), self.units // towers)

    def multiply_adds(self, shape: Shape, towers: int) -> int:
        return math.prod(self.kernel_shape(shape, towers))

    def __call__(self, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], -1) @ kernel + bias


@dataclasses.dataclass(frozen=True)
class Output:
    """The softmax layer, one unit a class, not split over towers.

    Each tower gives partial logits from its own units; the network sums them and adds the bias.
    """

    name: str
    deviation: float = 0.01
    bias: float = 0.0

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Partial logits of one tower, [rows, classes], float32 or wider."""
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return jnp.matmul(x.reshape(x.shape[0], -1), kernel, preferred_element_type=wide)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Where the towers meet: every later layer of each tower sees the maps of all towers."""

    def output(self, shape: Shape, towers: int) -> Shape:
        return (*shape[:-1], shape[-1] * towers)


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Mask units in training, multiply by `keep` otherwise (paper section 4.2; no scaling up)."""

    keep: float = 0.5

    def output(self, shape: Shape, towers: int) -> Shape:
        return shape

    def mask(self, keys: jax.Array, shape: Shape) -> jax.Array:
        """Boolean [rows, *shape], row r drawn from keys[r] alone."""
        units = math.prod(shape)
        if self.keep == 0.5:  # each bit of a random word is a fair coin: 32 masks for one draw
            words = jax.vmap(lambda key: jax.random.bits(key, (-(-units // 32),), jnp.uint32))(keys)
            coins = (words[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
            mask = coins.reshape(words.shape[0], -1)[:, :units].astype(bool)
        else:
            draw = lambda key: jax.random.bernoulli(key, jnp.float32(self.keep), (units,))  # noqa: E731
            mask = jax.vmap(draw)(keys)
        return mask.reshape(-1, *shape)


class _Elementwise:
    def output(self, shape: Shape, towers: int) -> Shape:
        return shape


@dataclasses.dataclass(frozen=True)
class ReLU(_Elementwise):
    """max(0, x), with gradient 0 at 0 as in the 2012 source (paper section 3.1)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(x)


@dataclasses.dataclass(frozen=True)
class Tanh(_Elementwise):
    """outer * tanh(inner * x); LeCun's LeNet-5 uses 1.7159 and 2/3."""

    outer: float = 1.0
    inner: float = 1.0

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer * jnp.tanh(self.inner * x)


@dataclasses.dataclass(frozen=True)
class _Normalization(_Elementwise):
    """Constants in the paper's letters, where `alpha` multiplies the plain sum of squares."""

    n: int
    k: float
    alpha: float
    beta: float


@dataclasses.dataclass(frozen=True)
class AcrossMapNorm(_Normalization):
    """Local response normalisation over n adjacent maps (paper section 3.3)."""

    @classmethod
    def cuda_convnet(cls, size: int, scale: float, power: float, minimum_divisor: float = 1.0):
        """From the numbers of a cuda-convnet config, whose `scale` is divided by `size`."""
        return cls(n=size, k=minimum_divisor, alpha=scale / size, beta=power)

    def __call__(self, x: jax.Array) -> jax.Array:
        return normalization.across_map_norm(x, self.n, self.k, self.alpha, self.beta)


@dataclasses.dataclass(frozen=True)
class SpatialNorm(_Normalization):
    """Response normalisation over an n x n window of one map (2012 source, not in the paper)."""

    @classmethod
    def cuda_convnet(cls, size: int, scale: float, power: float, minimum_divisor: float = 1.0):
        """From the numbers of a cuda-convnet config, whose `scale` is divided by `size` squared."""
        return cls(n=size, k=minimum_divisor, alpha=scale / size**2, beta=power)

    def __call__(self, x: jax.Array) -> jax.Array:
        return normalization.spatial_norm(x, self.n, self.k, self.alpha, self.beta)


@dataclasses.dataclass(frozen=True)
class _Pool:
    size: int
    stride: int

    def output(self, shape: Shape, towers: int) -> Shape:
        sides = (pooling.pooled_length(length, self.size, self.stride) for length in shape[:2])
        return (*sides, shape[2])


@dataclasses.dataclass(frozen=True)
class MaxPool(_Pool):
    """Overlapping max-pooling where size exceeds stride (paper section 3.4)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return pooling.max_pool(x, self.size, self.stride)


@dataclasses.dataclass(frozen=True)
class AveragePool(_Pool):
    """Mean pooling, as in LeNet-5's subsampling without its two trained numbers a map."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return pooling.average_pool(x, self.size, self.stride)


Layer = (
    Convolution | Dense | Output | Exchange | Dropout | ReLU | Tanh | AcrossMapNorm | SpatialNorm
    | MaxPool | AveragePool
)  # fmt: skip
