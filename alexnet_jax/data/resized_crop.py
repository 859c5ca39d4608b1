"""Inception's training crop: a rectangle of random area and aspect, resized to a square.

Szegedy et al. 2014 (arXiv 1409.4842, section 6). The paper's own crop is augment.random_crop.
"""

import jax
import jax.numpy as jnp
import numpy as np

TRIES = 10  # rectangles that are drawn; where none lies within the image, all of it is taken
ASPECTS = (3 / 4, 4 / 3)  # width / height, drawn log-uniformly


def random_resized_crop(
    images: jax.Array, keys: jax.Array, crop: int, areas: tuple[float, float]
) -> jax.Array:
    """A rectangle of each image [batch, size, size, channels], resized to crop x crop, float32.

    Its area is drawn uniformly from the shares `areas` of the image's. It is resized as Pillow and
    torchvision do: bilinear, averaging over as many pixels as become one.
    """
    size = images.shape[1]
    boxes = jax.vmap(lambda key: draw_box(key, size, areas))(keys)

    def resize(image, box):
        top, left, height, width = box
        rows = resize_weights(top, height, size, crop)
        columns = resize_weights(left, width, size, crop)
        pixels = image.astype(jnp.float32)
        # Else a GPU or a TPU would round pixels to the 8 to 11 bits of its fast products.
        return jnp.einsum("oi,pj,ijc->opc", rows, columns, pixels, precision="highest")

    return jax.vmap(resize)(images, boxes)


def draw_box(key: jax.Array, size: int, areas: tuple[float, float]) -> jax.Array:
    """Top, left, height and width of a rectangle within size x size pixels, int32 [4]."""
    keys = jax.random.split(key, 3)
    share = jax.random.uniform(keys[0], (TRIES,), jnp.float32, *areas)
    log_aspect = jax.random.uniform(keys[1], (TRIES,), jnp.float32, *np.log(ASPECTS))
    width = jnp.round(size * jnp.sqrt(share * jnp.exp(log_aspect)))
    height = jnp.round(size * jnp.sqrt(share / jnp.exp(log_aspect)))
    fits = (width >= 1) & (height >= 1) & (width <= size) & (height <= size)
    first, any_fits = jnp.argmax(fits), fits.any()
    extent = jnp.stack([height[first], width[first]]).astype(jnp.int32)
    extent = jnp.where(any_fits, extent, size)
    place = jax.random.uniform(keys[2], (2,), jnp.float32)
    start = jnp.minimum(jnp.floor(place * (size - extent + 1)).astype(jnp.int32), size - extent)
    return jnp.concatenate([start, extent])


def resize_weights(start: jax.Array, length: jax.Array, size: int, crop: int) -> jax.Array:
    """What each of `crop` pixels takes of `length` ones from `start` on, float32 [crop, size]."""
    scale = length / crop
    centers = start + (jnp.arange(crop, dtype=jnp.float32) + 0.5) * scale
    pixels = jnp.arange(size, dtype=jnp.float32)
    distance = jnp.abs(pixels + 0.5 - centers[:, None]) / jnp.maximum(scale, 1)
    within = (pixels >= start) & (pixels < start + length)
    weights = jnp.maximum(0, 1 - distance) * within
    return weights / weights.sum(axis=1, keepdims=True)
