"""One way from an encoded image to stored pixels, for every user of an image file.

Paper section 2: the shorter side is rescaled to 256 and the central 256 x 256 patch is cut out.
As in the authors' later preparation script (cuda-convnet2, 2014): by area when shrinking, bicubic
when enlarging. Rotation tags are not applied, as in 2012.
"""

import io
import pathlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from alexnet_jax.errors import UserError


def read(path: str | pathlib.Path, size: int, channels: int, warp: bool = False) -> np.ndarray:
    """uint8 [size, size, channels] of an image file; UserError if it cannot be decoded."""
    try:
        return decode(pathlib.Path(path).read_bytes(), size, channels, warp)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise UserError(
            f"The image {path} could not be decoded ({error}): replace it or take it away."
        ) from error


def decode(data: bytes, size: int, channels: int, warp: bool = False) -> np.ndarray:
    """uint8 [size, size, channels] of an encoded image: RGB for 3 channels, grey for 1."""
    with Image.open(io.BytesIO(data)) as image:
        return resize(image.convert("L" if channels == 1 else "RGB"), size, warp)


def resize(image: Image.Image, size: int, warp: bool = False) -> np.ndarray:
    """Shorter side to `size`, centre cut out; an image that has this size is left as it is.

    With `warp` both sides become `size`, whatever the shape, as in Caffe's ImageNet example. The
    filter is bilinear as there, but smooths when it shrinks, which Caffe's (OpenCV's) does not.
    """
    width, height = image.size
    short = min(width, height)
    if warp:
        if (width, height) != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
    elif short != size:
        method = Image.Resampling.BOX if short > size else Image.Resampling.BICUBIC
        scaled = (max(size, round(width * size / short)), max(size, round(height * size / short)))
        image = image.resize(scaled, method)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
