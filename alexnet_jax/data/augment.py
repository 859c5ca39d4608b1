"""Augmentation of a batch inside the jitted step (paper section 4.1 and the 2012 source).

Images come as uint8 [rows, size, size, channels]. Every draw of a row comes from that row's key,
so it does not depend on which rows share a device. Pixels stay in grey levels of 0 to 255 until
the last division.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data.statistics import Statistics
from alexnet_jax.runtime.errors import UserError

LARGEST_GREY_LEVEL = 255


def random_crop(images: jax.Array, keys: jax.Array, crop: int) -> jax.Array:
    """A crop x crop patch of each image, offsets uniform over all (size - crop + 1)^2 places."""
    places = images.shape[1] - crop + 1
    offsets = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, places))(keys)
    # Else XLA for GPUs draws them anew for each pixel.
    offsets = jax.lax.optimization_barrier(offsets)

    def cut(image, offset):
        return jax.lax.dynamic_slice(image, (*offset, 0), (crop, crop, image.shape[2]))

    return jax.vmap(cut)(images, offsets)


def central_crop(images: jax.Array | np.ndarray, crop: int):
    """The central patch of [..., size, size, channels]."""
    start = (images.shape[-2] - crop) // 2
    return images[..., start : start + crop, start : start + crop, :]


def view_places(views: str, size: int, crop: int) -> np.ndarray:
    """Where the views of an evaluated image lie: rows of top, left and 1 if flipped, int32 [n, 3].

    "center": the centre alone; "ten": the corners and the centre, then the same flipped (section
    4.1 and the 2012 source); "all": every place of the crop, (size - crop + 1)^2, then the same
    flipped.
    """
    end, middle = size - crop, (size - crop) // 2
    match views:
        case "center":
            return np.int32([[middle, middle, 0]])
        case "ten":
            places = [[0, 0], [0, end], [middle, middle], [end, 0], [end, end]]
        case "all":
            places = [[top, left] for top in range(end + 1) for left in range(end + 1)]
        case _:
            raise ValueError(f"There are no views '{views}'.")
    return np.int32([[*place, flipped] for flipped in (0, 1) for place in places])


def view_at(images: jax.Array, place: jax.Array, crop: int) -> jax.Array:
    """The crop of every image [rows, size, size, channels] at one row of `view_places`."""
    rows, channels = images.shape[0], images.shape[3]
    zero = jnp.zeros((), place.dtype)  # a plain 0 would be of another type in double precision
    start = (zero, place[0], place[1], zero)
    patch = jax.lax.dynamic_slice(images, start, (rows, crop, crop, channels))
    return jnp.where(place[2] == 1, patch[:, :, ::-1], patch)


def input_at(
    images: jax.Array, place: jax.Array, crop: int, mean, divisor, mean_at_crop: bool
) -> jax.Array:
    """The network's input for the view at `place`: cropped, mean-subtracted and divided.

    `mean` and `divisor` are those of `subtracted_mean` and `divisor`, in the type of the result.
    """
    if mean_at_crop:
        inputs = view_at(images.astype(mean.dtype) - mean, place, crop)
    else:
        inputs = view_at(images, place, crop).astype(mean.dtype) - mean
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
    """(x + c d) / (1 + c), with one d = sum of z_k s_k v_k an image, z_k from N(0, 1).

    `images` are mean-subtracted; `directions` [channels, channels] has the rows s_k v_k; c is
    `strength`: 0.1 in 2012, and with 0 nothing changes. The division is in the source
    (convdata_jpeg.py), not in the paper; `divides` says whether it is done.
    """
    draw = lambda key: jax.random.normal(key, (directions.shape[0],), jnp.float32)  # noqa: E731
    shifts = jax.vmap(draw)(keys).astype(images.dtype) @ directions.astype(images.dtype)
    strength = jnp.asarray(strength, images.dtype)
    noisy = images + strength * shifts[:, None, None, :]
    return noisy / (1 + strength) if divides else noisy


def mean_view(mean_image: np.ndarray, crop: int) -> np.ndarray:
    """The mean that is subtracted: the central patch of the mean image, for every crop and flip.

    The 2012 source does so; Caffe takes the patch at the crop's own place.
    """
    return central_crop(mean_image, crop)


def scaled_directions(statistics: Statistics, by: str = "deviations") -> np.ndarray:
    """Rows s_k v_k for `colour_noise`, [channels, channels], in grey levels.

    With `by` "deviations" s_k is a standard deviation, as in the 2012 source; with "eigenvalues" it
    is the eigenvalue of pixels scaled to 0 ... 1, as the paper writes (section 4.1): in grey levels
    lambda_k / 255.
    """
    lengths = statistics.colour_deviations
    if by == "eigenvalues":
        lengths = lengths**2 / LARGEST_GREY_LEVEL
    return lengths[:, None] * statistics.colour_directions


def subtracted_mean(
    statistics: Statistics, kind: str, at_the_crop: bool, crop: int, channel_mean: Sequence[float]
) -> np.ndarray:
    """What is subtracted from the pixels, in grey levels; `kind` is that of data.mean.

    "image": [size, size, channels] `at_the_crop`, else the central [crop, crop, channels];
    "channel": [channels], `channel_mean` or, if that is empty, as measured; "scalar", the mean over
    all pixels and channels (net 136's), and "none": [].
    """
    match kind:
        case "image" if at_the_crop:
            return statistics.mean_image
        case "image":
            return mean_view(statistics.mean_image, crop)
        case "channel":
            return np.float32(channel_mean or statistics.channel_means)
        case "scalar":
            return np.float32(statistics.channel_means.mean())
        case "none":
            return np.float32(0)
    raise ValueError(f"There is no mean '{kind}'.")


def divisor(statistics: Statistics, units: str, scale: float) -> np.ndarray:
    """What divides the pixels after the mean; `units` is that of data.units.

    "grey_levels": `scale`; "min_max": 255, so that pixels lie in 0 ... 1; "standardise": the
    standard deviation of each channel, [channels]. UserError for a channel that never varies.
    """
    match units:
        case "grey_levels":
            return np.float32(scale)
        case "min_max":
            return np.float32(LARGEST_GREY_LEVEL)
        case "standardise":
            deviations = statistics.channel_deviations
            if not deviations.all():
                raise UserError(
                    "data.units=standardise divides by each channel's deviation, but the training "
                    f"images' are {deviations.tolist()}: use data.units=grey_levels."
                )
            return deviations
    raise ValueError(f"There are no units '{units}'.")
