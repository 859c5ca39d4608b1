"""What the network sees of an image: random crops in training, fixed ones in evaluation."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alexnet_jax.data import augment, resized_crop
from alexnet_jax.training.rng import ExampleKeys


class Preprocessing(NamedTuple):
    """Arrays that turn pixels into the network's input.

    `mean` is subtracted (augment.subtracted_mean); `directions` [channels, channels] is for colour
    noise (augment.scaled_directions); `divisor`, [] or [channels], comes last (augment.divisor).
    """

    mean: jax.Array
    directions: jax.Array
    divisor: jax.Array


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How a training image is augmented; see data/augment.py.

    `group_size` examples in a row share crop and flip. With `mean_at_crop` the mean is a whole
    image that is cropped and flipped as the example is, in evaluation too: Caffe's way; the 2012
    source takes its center for every crop. With `resized_areas`, shares of the image's area, the
    crop is that of data/resized_crop.py. Colour noise has strength `noise` before step `noise_end`;
    with `noise_divides` the result is divided by 1 + `noise`.
    """

    crop: int
    random_crop: bool = True
    resized_areas: tuple[float, float] | None = None
    flip: bool = True
    group_size: int = 1
    mean_at_crop: bool = False
    noise: float = 0.1
    noise_end: int = 2**31 - 1
    noise_divides: bool = True

    def augment(
        self,
        images: jax.Array,
        keys: ExampleKeys,
        step: jax.Array,
        preprocessing: Preprocessing,
        dtype,
    ) -> jax.Array:
        """What the network sees in training of images [batch, side, side, channels], in `dtype`."""
        mean = preprocessing.mean.astype(dtype)
        if self.mean_at_crop:
            images = images.astype(dtype) - mean
        if self.resized_areas:
            images = resized_crop.random_resized_crop(
                images, keys.crop, self.crop, self.resized_areas
            )
        elif self.random_crop:
            images = augment.random_crop(images, keys.crop, self.crop)
        else:
            images = augment.center_crop(images, self.crop)
        if self.flip:
            images = augment.random_flip(images, keys.flip)
        inputs = images if self.mean_at_crop else images.astype(dtype) - mean
        if self.noise:
            strength = jnp.where(step < self.noise_end, self.noise, 0.0)
            inputs = augment.colour_noise(
                inputs, keys.colour, preprocessing.directions, strength, self.noise_divides
            )
        return inputs / preprocessing.divisor.astype(dtype)

    def crop_at(
        self, images: jax.Array, position: jax.Array, preprocessing: Preprocessing, dtype
    ) -> jax.Array:
        """What it sees in evaluation at a position of augment.crop_positions."""
        mean = preprocessing.mean.astype(dtype)
        divisor = preprocessing.divisor.astype(dtype)
        return augment.crop_inputs(
            images,
            position,
            crop=self.crop,
            mean=mean,
            divisor=divisor,
            mean_at_crop=self.mean_at_crop,
        )
