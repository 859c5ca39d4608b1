"""The kinds of layer, as data: what each does, its shapes and how its parameters are drawn.

`filters` and `units` are counted over all towers together. Shapes are those of one example in one
tower: (height, width, channels) or (units,). Weights are drawn from N(0, deviation), untruncated;
biases start at `bias`. Layers get the array of one tower and the `Operations` that compute.
"""

import abc
import dataclasses
import math
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from alexnet_jax.model.low_resolution import LowResolution
from alexnet_jax.model.ops import (
    Operations,
    Params,
    conv_output_length,
    dropout_mask,
    in_whole_windows,
    pool_output_length,
)
from alexnet_jax.model.tower_layers import LocallyConnected, Shape, TowerLayer


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with one bias a filter; windows start at -padding.

    With `low_resolution` it also convolves a blurred and subsampled copy of the network's input
    and adds the two, as conv2 does in the authors' networks before net 145.
    """

    name: str
    filters: int
    size: int
    stride: int = 1
    padding: int = 0
    deviation: float = 0.01
    bias: float = 0.0
    floor: bool = False
    low_resolution: LowResolution | None = None

    def output(self, shape: Shape, towers: int) -> Shape:
        return (*map(self._windows, shape[:2]), self.filters // towers)

    def _windows(self, length: int) -> int:
        stride, padding, floor = self.stride, self.padding, self.floor
        return conv_output_length(length, self.size, stride=stride, padding=padding, floor=floor)

    def parameters(self, shape: Shape, towers: int) -> dict[str, Shape]:
        filters = self.filters // towers
        shapes: dict[str, Shape]
        shapes = {"kernel": (self.size, self.size, shape[2], filters), "bias": (filters,)}
        if self.low_resolution:
            side = self.low_resolution.size
            shapes["low_kernel"] = (side, side, self.low_resolution.channels, filters)
        return shapes

    def __call__(
        self, x: jax.Array, params: Params, image: jax.Array, ops: Operations
    ) -> jax.Array:
        y = ops.convolve(
            x, params["kernel"], stride=self.stride, padding=self.padding, floor=self.floor
        )
        y = ops.add_bias(y, params["bias"])
        if self.low_resolution:
            blurred = self.low_resolution(image)
            y += ops.convolve(blurred, params["low_kernel"], stride=self.low_resolution.stride)
        return y


@dataclasses.dataclass(frozen=True)
class Dense:
    """A fully connected layer on the flattened input (height, width, channels in this order)."""

    name: str
    units: int
    deviation: float = 0.01
    bias: float = 0.0

    def output(self, shape: Shape, towers: int) -> Shape:
        return (self.units // towers,)

    def parameters(self, shape: Shape, towers: int) -> dict[str, Shape]:
        units = self.units // towers
        return {"kernel": (math.prod(shape), units), "bias": (units,)}


@dataclasses.dataclass(frozen=True)
class Output:
    """The softmax layer, one unit a class, with one bias for all towers.

    Each tower gives partial logits from its own inputs; the network sums them and adds the bias.
    """

    name: str
    deviation: float = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Where the towers meet: later layers of each tower see the channels of all towers."""

    def output(self, shape: Shape, towers: int) -> Shape:
        return (*shape[:-1], shape[-1] * towers)


class Elementwise(abc.ABC):
    """A layer without parameters that leaves the shape of its input."""

    def output(self, shape: Shape, towers: int) -> Shape:
        return shape

    @abc.abstractmethod
    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        """What comes of x [batch, *shape] of one tower."""


@dataclasses.dataclass(frozen=True)
class Dropout(Elementwise):
    """Mask units in training and multiply by `keep` otherwise (paper section 4.2).

    With `scale_in_training` what is kept is divided by `keep` in training instead, and nothing
    happens otherwise: Caffe's and PyTorch's convention.
    """

    keep: float = 0.5
    scale_in_training: bool = False

    def mask(self, keys: jax.Array, shape: Shape) -> jax.Array:
        """Boolean [batch, *shape]; the mask of example i is drawn from keys[i] alone."""
        return dropout_mask(keys, shape, self.keep)

    def training(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """What passes in training, where `mask` is true."""
        kept = jnp.where(mask, x, jnp.zeros((), x.dtype))
        return kept / jnp.asarray(self.keep, x.dtype) if self.scale_in_training else kept

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return x if self.scale_in_training else x * jnp.asarray(self.keep, x.dtype)


class Activation(Elementwise):
    """A function of each value alone: `__call__(x, ops)`."""


@dataclasses.dataclass(frozen=True)
class ReLU(Activation):
    """max(0, x), with gradient 0 at 0 as in the 2012 source (paper section 3.1)."""

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return ops.relu(x)


@dataclasses.dataclass(frozen=True)
class Tanh(Activation):
    """outer * tanh(inner * x); LeCun's LeNet-5 uses 1.7159 and 2/3."""

    outer: float = 1.0
    inner: float = 1.0

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return self.outer * jnp.tanh(self.inner * x)


@dataclasses.dataclass(frozen=True)
class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return jax.nn.sigmoid(x)


@dataclasses.dataclass(frozen=True)
class _Normalization(Elementwise):
    """Constants in the paper's letters, where `alpha` multiplies the plain sum of squares.

    `cuda_convnet` and `caffe` take the numbers of those programs, whose constant is divided by the
    size of the window: so the two readings of alpha can't be mixed up.
    """

    n: int
    k: float
    alpha: float
    beta: float
    _axes: ClassVar[int] = 1  # over which a window extends

    @classmethod
    def cuda_convnet(
        cls, *, size: int, scale: float, power: float, minimum_divisor: float = 1.0
    ) -> Self:
        """From the numbers of a cuda-convnet config, whose `scale` is divided by the window."""
        return cls(n=size, k=minimum_divisor, alpha=scale / size**cls._axes, beta=power)

    def constants(self) -> dict[str, float]:
        """k, alpha and beta as keyword arguments of the operations."""
        return {"k": self.k, "alpha": self.alpha, "beta": self.beta}


@dataclasses.dataclass(frozen=True)
class ResponseNorm(_Normalization):
    """Local response normalisation over n adjacent channels (paper section 3.3).

    A window stays within its tower, as in 2012, unless `across_towers`, as in Caffe.
    """

    across_towers: bool = False

    @classmethod
    def caffe(cls, *, local_size: int, alpha: float, beta: float, k: float = 1.0) -> "ResponseNorm":
        """From the numbers of Caffe, ONNX or PyTorch, whose `alpha` is divided by the size."""
        return cls(n=local_size, k=k, alpha=alpha / local_size, beta=beta, across_towers=True)

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return self.across([x], ops)[0]

    def across(self, towers: list[jax.Array], ops: Operations) -> list[jax.Array]:
        """Adjacent towers, normalised with windows that reach into the next tower."""
        return ops.response_norm(towers, self.n, **self.constants())


@dataclasses.dataclass(frozen=True)
class SpatialNorm(_Normalization):
    """Response normalisation over an n x n window of one channel (2012 source, not the paper)."""

    _axes: ClassVar[int] = 2

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return ops.spatial_norm(x, self.n, **self.constants())


@dataclasses.dataclass(frozen=True)
class ContrastNorm(SpatialNorm):
    """Like SpatialNorm, but the window's squares are of the differences from local means."""

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return ops.contrast_norm(x, self.n, **self.constants())


@dataclasses.dataclass(frozen=True)
class _Pool:
    """Windows of size x size, `stride` apart, clipped at the edge (2012), or whole with `floor`."""

    size: int
    stride: int
    floor: bool = False

    def output(self, shape: Shape, towers: int) -> Shape:
        sides = (pool_output_length(n, self.size, self.stride, self.floor) for n in shape[:2])
        return (*sides, shape[2])

    def covered(self, x: jax.Array) -> jax.Array:
        return in_whole_windows(x, self.size, self.stride) if self.floor else x


@dataclasses.dataclass(frozen=True)
class MaxPool(_Pool):
    """Overlapping max-pooling where size exceeds stride (paper section 3.4)."""

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return ops.max_pool(self.covered(x), self.size, self.stride)


@dataclasses.dataclass(frozen=True)
class AveragePool(_Pool):
    """Mean pooling, as in LeNet-5's subsampling without its two trained numbers a channel."""

    def __call__(self, x: jax.Array, ops: Operations) -> jax.Array:
        return ops.average_pool(self.covered(x), self.size, self.stride)


Weighted = Convolution | TowerLayer | Dense
Unweighted = Exchange | Elementwise | MaxPool | AveragePool
Hidden = Unweighted | Weighted
Layer = Hidden | Output
# All of this project's own kinds; users may add others.
LAYER_KINDS = (
    Convolution, LocallyConnected, Dense, Output, Exchange, Dropout, ReLU, Tanh, Sigmoid,
    ResponseNorm, SpatialNorm, ContrastNorm, MaxPool, AveragePool,
)  # fmt: skip
