"""Augmentation of a batch inside the jitted step (paper section 4.1 and the 2012 source).

Images come as uint8 [rows, size, size, channels]. Every draw of a row comes from that row's key,
so it does not depend on which rows share a device. Pixels stay in units of 0 to 255.
"""

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data.statistics import Statistics


def random_crop(images: jax.Array, keys: jax.Array, crop: int) -> jax.Array:
    """A crop x crop patch of each image, offsets uniform over all (size - crop + 1)^2 places."""
    places = images.shape[1] - crop + 1
    offsets = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, places))(keys)

    def cut(image, offset):
        return jax.lax.dynamic_slice(image, (*offset, 0), (crop, crop, image.shape[2]))

    return jax.vmap(cut)(images, offsets)


def central_crop(images: jax.Array | np.ndarray, crop: int):
    """The central patch of [..., size, size, channels]."""
    start = (images.shape[-2] - crop) // 2
    return images[..., start : start + crop, start : start + crop, :]


def random_flip(images: jax.Array, keys: jax.Array) -> jax.Array:
    """Mirror each image left to right with probability one half."""
    flips = jax.vmap(lambda key: jax.random.bernoulli(key))(keys)
    return jnp.where(flips[:, None, None, None], images[:, :, ::-1], images)


def colour_noise(
    images: jax.Array, keys: jax.Array, directions: jax.Array, strength: jax.Array | float
) -> jax.Array:
    """(x + c d) / (1 + c), with one d = sum of z_k s_k v_k an image, z_k from N(0, 1).

    `images` are mean-subtracted; `directions` [channels, channels] has the rows s_k v_k; c is
    `strength`: 0.1 in 2012, and with 0 nothing changes. The division is in the source
    (convdata_jpeg.py), not in the paper.
    """
    draw = lambda key: jax.random.normal(key, (directions.shape[0],), jnp.float32)  # noqa: E731
    shifts = jax.vmap(draw)(keys).astype(images.dtype) @ directions.astype(images.dtype)
    strength = jnp.asarray(strength, images.dtype)
    return (images + strength * shifts[:, None, None, :]) / (1 + strength)


def mean_view(mean_image: np.ndarray, crop: int) -> np.ndarray:
    """The mean that is subtracted: the central patch of the mean image, for every crop and flip.

    The 2012 source does so; Caffe takes the patch at the crop's own place.
    """
    return central_crop(mean_image, crop)


def scaled_directions(statistics: Statistics) -> np.ndarray:
    """Rows s_k v_k for `colour_noise`, [channels, channels]."""
    return statistics.colour_deviations[:, None] * statistics.colour_directions
