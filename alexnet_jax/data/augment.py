"""Augmentation of a batch inside the jitted step (paper section 4.1 and the 2012 source).

Images are uint8 [batch, size, size, channels]. The random numbers of an example come from that
example's key, so they do not depend on which examples share a device. Pixels stay in grey levels of
0 to 255 until the last division.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data.statistics import Statistics
from alexnet_jax.runtime.errors import UserError

LARGEST_GREY_LEVEL = 255

Images = TypeVar("Images", jax.Array, np.ndarray)


def random_crop(images: jax.Array, keys: jax.Array, crop: int) -> jax.Array:
    """A crop x crop patch of each image, at one of the (size - crop + 1)^2 positions, uniformly."""
    num_offsets = images.shape[1] - crop + 1
    offsets = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, num_offsets))(keys)
    # Without the barrier XLA for GPUs draws the offsets anew for each pixel.
    offsets = jax.lax.optimization_barrier(offsets)

    def cut(image, offset):
        return jax.lax.dynamic_slice(image, (*offset, 0), (crop, crop, image.shape[2]))

    return jax.vmap(cut)(images, offsets)


def center_crop(images: Images, crop: int) -> Images:
    """The crop x crop patch at the center of images [..., size, size, channels]."""
    start = (images.shape[-2] - crop) // 2
    return images[..., start : start + crop, start : start + crop, :]


def crop_positions(views: str, size: int, crop: int) -> np.ndarray:
    """Positions of an image's crops in evaluation, int32 [n, 3]: top, left, and 1 if flipped.

    `views` is "center": the center crop alone; "ten": the four corners and the center, then the
    same flipped (section 4.1 and the 2012 source); "all": all (size - crop + 1)^2 positions, then
    the same flipped. ValueError for another.
    """
    end, middle = size - crop, (size - crop) // 2
    match views:
        case "center":
            return np.array([[middle, middle, 0]], np.int32)
        case "ten":
            offsets = [[0, 0], [0, end], [middle, middle], [end, 0], [end, end]]
        case "all":
            offsets = [[top, left] for top in range(end + 1) for left in range(end + 1)]
        case _:
            raise ValueError(f"There are no views '{views}'.")
    positions = [[*offset, flipped] for flipped in (0, 1) for offset in offsets]
    return np.array(positions, np.int32)


def crop_at(images: jax.Array, position: jax.Array, crop: int) -> jax.Array:
    """The crop of all images [batch, size, size, channels] at one of the `crop_positions`."""
    batch, channels = images.shape[0], images.shape[3]
    zero = jnp.zeros((), position.dtype)  # a plain 0 would be of another type in double precision
    start = (zero, position[0], position[1], zero)
    patch = jax.lax.dynamic_slice(images, start, (batch, crop, crop, channels))
    return jnp.where(position[2] == 1, patch[:, :, ::-1], patch)


def crop_inputs(
    images: jax.Array, position: jax.Array, *, crop: int, mean, divisor, mean_at_crop: bool
) -> jax.Array:
    """The network's inputs for the crops at `position`: cropped, mean-subtracted and divided.

    `mean` and `divisor` are the results of `subtracted_mean` and `divisor`, in the dtype of the
    inputs. With `mean_at_crop` the mean is a whole image, cropped like the images.
    """
    if mean_at_crop:
        inputs = crop_at(images.astype(mean.dtype) - mean, position, crop)
    else:
        inputs = crop_at(images, position, crop).astype(mean.dtype) - mean
    return inputs / divisor


def random_flip(images: jax.Array, keys: jax.Array) -> jax.Array:
    """Mirror each image left to right with probability one half."""
    flips = jax.vmap(lambda key: jax.random.bernoulli(key))(keys)
    return jnp.where(flips[:, None, None, None], images[:, :, ::-1], images)


def colour_noise(
    images: jax.Array,
    keys: jax.Array,
    directions: jax.Array,
    strength: jax.Array | float,
    divides: bool = True,
) -> jax.Array:
    """(x + c d) / (1 + c), where each image x has one d = sum of z_k s_k v_k, z_k from N(0, 1).

    `images` are mean-subtracted. `directions` [channels, channels] has the rows s_k v_k. c is
    `strength`: 0.1 in 2012; 0 changes nothing. The division is in the 2012 source
    (convdata_jpeg.py), not in the paper; it is left out unless `divides`.
    """
    draw = lambda key: jax.random.normal(key, (directions.shape[0],), jnp.float32)  # noqa: E731
    shifts = jax.vmap(draw)(keys).astype(images.dtype) @ directions.astype(images.dtype)
    strength = jnp.asarray(strength, images.dtype)
    noisy = images + strength * shifts[:, None, None, :]
    return noisy / (1 + strength) if divides else noisy


def scaled_directions(statistics: Statistics, by: str = "deviations") -> np.ndarray:
    """Scaled components s_k v_k for `colour_noise`, one a row, [channels, channels], grey levels.

    With `by` "deviations" s_k is the component's standard deviation, as in the 2012 source; with
    "eigenvalues" it is the eigenvalue for pixels scaled to 0 ... 1, as the paper writes (section
    4.1): lambda_k / 255 in grey levels.
    """
    lengths = statistics.colour_deviations
    if by == "eigenvalues":
        lengths = lengths**2 / LARGEST_GREY_LEVEL
    return lengths[:, None] * statistics.colour_directions


def subtracted_mean(
    statistics: Statistics,
    kind: str,
    *,
    at_crop: bool,
    crop: int,
    channel_mean: Sequence[float],
) -> np.ndarray:
    """The mean that is subtracted from the pixels, float32, in grey levels.

    `kind` (data.mean) is "image": the center [crop, crop, channels] of the mean image, for every
    crop and flip as in the 2012 source, or `at_crop` the whole [size, size, channels], of which
    Caffe takes the patch at the crop's position; "channel": [channels], `channel_mean` or, if that
    is empty, the measured one; "scalar": [], the mean over all pixels and channels (net 136's);
    "none": [], zero. ValueError for another.
    """
    match kind:
        case "image" if at_crop:
            return statistics.mean_image
        case "image":
            return center_crop(statistics.mean_image, crop)
        case "channel":
            return np.asarray(channel_mean or statistics.channel_means, np.float32)
        case "scalar":
            return np.asarray(statistics.channel_means.mean(), np.float32)
        case "none":
            return np.zeros((), np.float32)
    raise ValueError(f"There is no mean '{kind}'.")


def divisor(statistics: Statistics, units: str, scale: float) -> np.ndarray:
    """The divisor of the mean-subtracted pixels, float32 [] or [channels].

    `units` (data.units) is "grey_levels": `scale`; "min_max": 255, so that pixels span 1;
    "standardise": the standard deviation of each channel, [channels]. UserError for a channel that
    never varies, ValueError for other units.
    """
    match units:
        case "grey_levels":
            return np.asarray(scale, np.float32)
        case "min_max":
            return np.asarray(LARGEST_GREY_LEVEL, np.float32)
        case "standardise":
            deviations = statistics.channel_deviations
            if not deviations.all():
                raise UserError(
                    "data.units=standardise divides by each channel's deviation, but the training "
                    f"images' are {deviations.tolist()}: use data.units=grey_levels."
                )
            return deviations
    raise ValueError(f"There are no units '{units}'.")
