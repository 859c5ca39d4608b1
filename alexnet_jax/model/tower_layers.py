"""Layers with parameters that are neither convolutions nor dense layers; also layers of one's own.

Each tower computes from its own input alone.
"""

import abc
import dataclasses
from typing import ClassVar

import jax

from alexnet_jax.model.ops import Params, conv_output_length, convolve_local

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TowerLayer(abc.ABC):
    """A layer with parameters, called with the array and the parameters of one tower.

    A class that derives from it is a frozen dataclass too and defines the three methods. Parameters
    called "bias" start at `bias`, all others are drawn from N(0, deviation).
    """

    name: str
    _: dataclasses.KW_ONLY
    deviation: float = 0.01
    bias: float = 0.0

    @abc.abstractmethod
    def output(self, shape: Shape, towers: int) -> Shape:
        """The shape that comes of one example's `shape`, both of one tower and without a batch."""

    @abc.abstractmethod
    def parameters(self, shape: Shape, towers: int) -> dict[str, Shape]:
        """{"kernel": ..., "bias": ...}: the shapes of one tower's parameters for such an input."""

    @abc.abstractmethod
    def __call__(self, x: jax.Array, params: Params) -> jax.Array:
        """[batch, *output] of x [batch, *shape]."""


@dataclasses.dataclass(frozen=True)
class LocallyConnected(TowerLayer):
    """A convolution with weights and biases for every position (cuda-convnet's `local`)."""

    filters: int
    size: int
    padding: int = 0
    stride: ClassVar[int] = 1
    floor: ClassVar[bool] = False

    def output(self, shape: Shape, towers: int) -> Shape:
        sides = (
            conv_output_length(n, self.size, stride=1, padding=self.padding) for n in shape[:2]
        )
        return (*sides, self.filters // towers)

    def parameters(self, shape: Shape, towers: int) -> dict[str, Shape]:
        output = self.output(shape, towers)
        patch = shape[2] * self.size**2  # one channel after the other, as jax.lax has them
        return {"kernel": (*output[:2], patch, output[2]), "bias": output}

    def __call__(self, x: jax.Array, params: Params) -> jax.Array:
        y = convolve_local(x, params["kernel"], size=self.size, padding=self.padding)
        return y + params["bias"]
