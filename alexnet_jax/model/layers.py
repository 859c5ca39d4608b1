"""The kinds of layer without weights; those with weights are in weighted.py.

A description is data: its fields are numbers. Shapes are those of one row in one tower: (height,
width, maps) or (units,). Layers are called with the array of one tower; the order and the meeting
of towers is the business of `network.py`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from alexnet_jax.model import normalization, pooling
from alexnet_jax.model.formulation import PLAIN, Formulation

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Where the towers meet: every later layer of each tower sees the maps of all towers."""

    def output(self, shape: Shape, towers: int) -> Shape:
        return (*shape[:-1], shape[-1] * towers)


class _Elementwise:
    def output(self, shape: Shape, towers: int) -> Shape:
        return shape


@dataclasses.dataclass(frozen=True)
class Dropout(_Elementwise):
    """Mask units in training and multiply by `keep` otherwise (paper section 4.2).

    With `scale_in_training` what is kept is divided by `keep` in training instead, and nothing
    happens otherwise: Caffe's and PyTorch's convention.
    """

    keep: float = 0.5
    scale_in_training: bool = False

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

    def training(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """What passes in training, where `mask` is true."""
        kept = jnp.where(mask, x, jnp.zeros((), x.dtype))
        return kept / jnp.asarray(self.keep, x.dtype) if self.scale_in_training else kept

    def __call__(self, x: jax.Array) -> jax.Array:
        return x if self.scale_in_training else x * jnp.asarray(self.keep, x.dtype)


@jax.custom_vjp
def _relu(x):
    """max(0, x); the backward pass needs the result alone, so a GPU need not write x."""
    return jnp.maximum(x, jnp.zeros((), x.dtype))


def _relu_forward(x):
    y = _relu(x)
    return y, y


def _relu_backward(y, gradient):
    y = jax.lax.optimization_barrier(y)  # or XLA asks whether x > 0, and keeps it
    return (jnp.where(y > 0, gradient, jnp.zeros((), gradient.dtype)),)


_relu.defvjp(_relu_forward, _relu_backward)


@dataclasses.dataclass(frozen=True)
class ReLU(_Elementwise):
    """max(0, x), with gradient 0 at 0 as in the 2012 source (paper section 3.1)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return _relu(x)


@dataclasses.dataclass(frozen=True)
class Tanh(_Elementwise):
    """outer * tanh(inner * x); LeCun's LeNet-5 uses 1.7159 and 2/3."""

    outer: float = 1.0
    inner: float = 1.0

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer * jnp.tanh(self.inner * x)


@dataclasses.dataclass(frozen=True)
class Sigmoid(_Elementwise):
    """1 / (1 + exp(-x))."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(x)


Activation = ReLU | Tanh | Sigmoid


@dataclasses.dataclass(frozen=True)
class _Normalization(_Elementwise):
    """Constants in the paper's letters, where `alpha` multiplies the plain sum of squares.

    `cuda_convnet` and `caffe` take the numbers of those programs, whose constant is divided by the
    size of the window: so the two readings of alpha can't be mixed up.
    """

    n: int
    k: float
    alpha: float
    beta: float


@dataclasses.dataclass(frozen=True)
class AcrossMapNorm(_Normalization):
    """Local response normalisation over n adjacent maps (paper section 3.3).

    A window stays within its tower, as in 2012, unless `across_towers`, as in Caffe.
    """

    across_towers: bool = False

    @classmethod
    def cuda_convnet(cls, size: int, scale: float, power: float, minimum_divisor: float = 1.0):
        """From the numbers of a cuda-convnet config, whose `scale` is divided by `size`."""
        return cls(n=size, k=minimum_divisor, alpha=scale / size, beta=power)

    @classmethod
    def caffe(cls, local_size: int, alpha: float, beta: float, k: float = 1.0):
        """From the numbers of Caffe, ONNX or PyTorch, whose `alpha` is divided by the size."""
        return cls(n=local_size, k=k, alpha=alpha / local_size, beta=beta, across_towers=True)

    def __call__(self, x: jax.Array, how: Formulation = PLAIN) -> jax.Array:
        return self.across([x], how)[0]

    def across(self, maps: list[jax.Array], how: Formulation = PLAIN) -> list[jax.Array]:
        """The maps of adjacent towers, normalised with windows that reach into the next tower."""
        return normalization.across_map_norm(
            maps, self.n, self.k, self.alpha, self.beta, how.norm_sums, how.gradients == "automatic"
        )


@dataclasses.dataclass(frozen=True)
class SpatialNorm(_Normalization):
    """Response normalisation over an n x n window of one map (2012 source, not in the paper)."""

    @classmethod
    def cuda_convnet(cls, size: int, scale: float, power: float, minimum_divisor: float = 1.0):
        """From the numbers of a cuda-convnet config, whose `scale` is divided by `size` squared."""
        return cls(n=size, k=minimum_divisor, alpha=scale / size**2, beta=power)

    def __call__(self, x: jax.Array, how: Formulation = PLAIN) -> jax.Array:
        automatic = how.gradients == "automatic"
        return normalization.spatial_norm(x, self.n, self.k, self.alpha, self.beta, automatic)


@dataclasses.dataclass(frozen=True)
class ContrastNorm(SpatialNorm):
    """Like SpatialNorm, but the window's squares are of the differences from local means."""

    def __call__(self, x: jax.Array, how: Formulation = PLAIN) -> jax.Array:
        return normalization.contrast_norm(x, self.n, self.k, self.alpha, self.beta)


@dataclasses.dataclass(frozen=True)
class _Pool:
    """Windows of size x size, `stride` apart, clipped at the edge by cuda-convnet's ceil rule."""

    size: int
    stride: int

    def output(self, shape: Shape, towers: int) -> Shape:
        sides = (pooling.pooled_length(length, self.size, self.stride) for length in shape[:2])
        return (*sides, shape[2])


@dataclasses.dataclass(frozen=True)
class MaxPool(_Pool):
    """Overlapping max-pooling where size exceeds stride (paper section 3.4)."""

    def __call__(self, x: jax.Array, how: Formulation = PLAIN) -> jax.Array:
        return pooling.max_pool(x, self.size, self.stride, how.gradients == "automatic")


@dataclasses.dataclass(frozen=True)
class AveragePool(_Pool):
    """Mean pooling, as in LeNet-5's subsampling without its two trained numbers a map."""

    def __call__(self, x: jax.Array, how: Formulation = PLAIN) -> jax.Array:
        return pooling.average_pool(x, self.size, self.stride, how.gradients == "automatic")


Unweighted = (
    Exchange | Dropout | ReLU | Tanh | Sigmoid | AcrossMapNorm | SpatialNorm | ContrastNorm
    | MaxPool | AveragePool
)  # fmt: skip
