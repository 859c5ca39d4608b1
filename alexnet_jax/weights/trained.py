"""A network with its weights and with what an image has to become for it."""

import dataclasses

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.networks import Variant


@dataclasses.dataclass(frozen=True)
class Pixels:
    """From an encoded image to the network's input; `mean` and `divisor` are in grey levels.

    The image is scaled to a shorter side of `size` pixels and its centre cut out, or with `warp`
    pressed into the square; RGB, or grey for one channel. `mean` float32, broadcast against a
    [crop, crop, channels] view; with `mean_at_crop` it is [size, size, channels] and cropped and
    flipped as the view is. `divisor` float32, [] or [channels], divides last.
    """

    size: int
    mean: np.ndarray
    divisor: np.ndarray
    mean_at_crop: bool = False
    warp: bool = False


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network with weights, on the host.

    `name` is for people. `classes` are the names of the labels in order. `parameters` float32, as
    {layer: {"kernel", "bias"}} with the tower axis first (model/network.py).
    """

    name: str
    variant: Variant
    classes: tuple[str, ...]
    parameters: dict[str, dict[str, np.ndarray]]
    pixels: Pixels

    @property
    def architecture(self) -> Architecture:
        """The network as a list of layers."""
        return self.variant.architecture()
