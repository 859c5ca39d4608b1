"""Floating-point operations of a training step by the arithmetic of its layers with weights.

A multiply-add is two operations. Only products count, as is usual: convolutions, local and dense
layers and the softmax layer's product.
"""

import dataclasses
import math

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Output, TowerLayer
from alexnet_jax.model.summary import multiply_adds


@dataclasses.dataclass(frozen=True)
class LayerFlops:
    """Floating-point operations of one layer for one image, in all towers.

    `input_gradient` is 0 where the input is the network's image, whose gradient nobody needs.
    """

    layer: str
    forward: int
    weight_gradient: int
    input_gradient: int

    @property
    def total(self) -> int:
        """Of a training step."""
        return self.forward + self.weight_gradient + self.input_gradient


def layer_flops(architecture: Architecture, num_classes: int) -> list[LayerFlops]:
    """Those of each layer with weights, in order."""
    towers = architecture.towers
    layers: list[LayerFlops] = []
    for layer, shape in architecture.shapes():
        of_image = 0
        match layer:
            case Output():
                adds = math.prod(shape) * num_classes
            case Convolution() | TowerLayer() | Dense():
                adds = multiply_adds(layer, shape, towers)
                if not layers:
                    of_image = adds
                elif getattr(layer, "low_resolution", None):
                    height, width, _ = layer.output(shape, towers)
                    kernel = layer.parameters(shape, towers)["low_kernel"]
                    of_image = height * width * math.prod(kernel)
            case _:
                continue
        forward = 2 * towers * adds
        layers.append(LayerFlops(layer.name, forward, forward, forward - 2 * towers * of_image))
    return layers


def training_flops(architecture: Architecture, num_classes: int) -> int:
    """Of one image in a training step."""
    return sum(layer.total for layer in layer_flops(architecture, num_classes))


def forward_flops(architecture: Architecture, num_classes: int) -> int:
    """Of one image in the forward pass."""
    return sum(layer.forward for layer in layer_flops(architecture, num_classes))
