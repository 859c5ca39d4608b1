"""The kinds of layer that have weights.

A description is data: its fields are numbers, `filters` and `units` counted over all towers
together. Shapes are those of one row in one tower: (height, width, maps) or (units,). Each kind
says which parameters it has, {name: shape} without the tower axis, and is called with the array
and the parameters of one tower. Weights are drawn from N(0, deviation), untruncated; all biases
start at `bias`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from alexnet_jax.model import lowresolution
from alexnet_jax.model.convolution import Convolve, biased, convolve, convolved_length

Shape = tuple[int, ...]
Tower = dict[str, jax.Array]  # the parameters of a layer in one tower


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
    low_resolution: lowresolution.LowResolution | None = None

    def output(self, shape: Shape, towers: int) -> Shape:
        return (*(self._length(length) for length in shape[:2]), self.filters // towers)

    def parameters(self, shape: Shape, towers: int) -> dict[str, Shape]:
        filters = self.filters // towers
        shapes = {"kernel": (self.size, self.size, shape[2], filters), "bias": (filters,)}
        if self.low_resolution:
            side = self.low_resolution.size
            shapes["low_kernel"] = (side, side, self.low_resolution.channels, filters)
        return shapes

    def multiply_adds(self, shape: Shape, towers: int) -> int:
        height, width, _ = self.output(shape, towers)
        shapes = self.parameters(shape, towers)
        kernels = (math.prod(shapes[kind]) for kind in shapes if kind != "bias")
        return height * width * sum(kernels)

    def __call__(
        self, x: jax.Array, own: Tower, image: jax.Array, convolve: Convolve = convolve
    ) -> jax.Array:
        y = convolve(x, own["kernel"], self.stride, self.padding, self.floor)
        y = biased(y, own["bias"])
        if self.low_resolution:
            view = self.low_resolution(image)
            y += convolve(view, own["low_kernel"], self.low_resolution.stride, 0, floor=False)
        return y

    def _length(self, length: int) -> int:
        return convolved_length(length, self.size, self.stride, self.padding, self.floor)


@dataclasses.dataclass(frozen=True)
class LocallyConnected:
    """Like a convolution, but with weights and biases of its own at every position.

    Source: layer type `local` of cuda-convnet (LocalUnsharedLayerParser).
    """

    name: str
    filters: int
    size: int
    padding: int = 0
    deviation: float = 0.01
    bias: float = 0.0

    def output(self, shape: Shape, towers: int) -> Shape:
        sides = (convolved_length(n, self.size, 1, self.padding, False) for n in shape[:2])
        return (*sides, self.filters // towers)

    def parameters(self, shape: Shape, towers: int) -> dict[str, Shape]:
        output = self.output(shape, towers)
        patch = shape[2] * self.size**2  # a map after the other, as jax.lax has them
        return {"kernel": (*output[:2], patch, output[2]), "bias": output}

    def multiply_adds(self, shape: Shape, towers: int) -> int:
        return math.prod(self.parameters(shape, towers)["kernel"])

    def __call__(self, x: jax.Array, own: Tower, image: jax.Array) -> jax.Array:
        y = jax.lax.conv_general_dilated_local(
            x,
            own["kernel"],
            window_strides=(1, 1),
            padding=[(self.padding, self.padding)] * 2,
            filter_shape=(self.size, self.size),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + own["bias"]


@dataclasses.dataclass(frozen=True)
class Dense:
    """A fully connected layer on the flattened input (height, width, maps in this order)."""

    name: str
    units: int
    deviation: float = 0.01
    bias: float = 0.0

    def output(self, shape: Shape, towers: int) -> Shape:
        return (self.units // towers,)

    def parameters(self, shape: Shape, towers: int) -> dict[str, Shape]:
        units = self.units // towers
        return {"kernel": (math.prod(shape), units), "bias": (units,)}

    def multiply_adds(self, shape: Shape, towers: int) -> int:
        return math.prod(self.parameters(shape, towers)["kernel"])

    def __call__(self, x: jax.Array, own: Tower, image: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], -1) @ own["kernel"] + own["bias"]


@dataclasses.dataclass(frozen=True)
class Output:
    """The softmax layer, one unit a class, with one bias for all towers.

    Each tower gives partial logits from its own inputs; the network sums them and adds the bias.
    """

    name: str
    deviation: float = 0.01
    bias: float = 0.0

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Partial logits of one tower, [rows, classes], float32 or wider."""
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return jnp.matmul(x.reshape(x.shape[0], -1), kernel, preferred_element_type=wide)


Weighted = Convolution | LocallyConnected | Dense
