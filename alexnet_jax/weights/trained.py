"""A network with its weights and with the preprocessing of its images."""

import dataclasses

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.networks import Variant

HostParameters = dict[str, dict[str, np.ndarray]]  # {layer: {"kernel", "bias", ...}}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The preprocessing from an encoded image to the network's input.

    The image is scaled to a shorter side of `size` pixels and cropped at its center or, with
    `warp`, resized to a square without regard to its aspect ratio; RGB, or grey for one channel.
    The input is (crop - mean) / divisor, in grey levels of 0 to 255.

    `mean` is float32 and broadcast against a crop [crop, crop, channels]; with `mean_at_crop` it is
    [size, size, channels] and is cropped and flipped as the image is. `divisor` is float32, [] or
    [channels].
    """

    size: int
    mean: np.ndarray
    divisor: np.ndarray
    mean_at_crop: bool = False
    warp: bool = False


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network with its weights, on the host.

    `name` is for people. `classes` are the names of the labels in order. `parameters` are float32
    with the tower axis first (model/architecture.py, `parameter_shapes`).
    """

    name: str
    variant: Variant
    classes: tuple[str, ...]
    parameters: HostParameters
    pixels: Pixels

    @property
    def architecture(self) -> Architecture:
        """The network as a list of layers."""
        return self.variant.architecture()
