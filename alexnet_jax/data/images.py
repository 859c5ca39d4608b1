"""Decoding and resizing of images, the same for preparation, training and prediction.

Paper section 2: the shorter side is rescaled to 256 and the central 256 x 256 patch is cut out.
Resampling is by area when shrinking and bicubic when enlarging, as in the authors' later
preparation script (cuda-convnet2, 2014). Rotation tags are not applied, as in 2012.
"""

import contextlib
import io
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from alexnet_jax.runtime.errors import UserError

# An image beyond these is refused: at 1:50 the central square shows a fiftieth of it, and decoding
# takes memory in proportion to both.
MAX_ASPECT_RATIO = 50
MAX_PIXELS = 100_000_000
MAX_BYTES = 512 * 2**20  # of a file: an uncompressed one of MAX_PIXELS is shorter
# Pillow reads others too, and passes EPS to an interpreter that executes it.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF


class BadImage(UserError):
    """An image that cannot be used, with the reason."""


class Refused(BadImage):
    """Beyond MAX_ASPECT_RATIO, MAX_PIXELS or MAX_BYTES."""


class Undecodable(BadImage):
    """No image, of an unknown format, or broken."""


def read(path: str | os.PathLike) -> bytes:
    """The content of an image file, cut after MAX_BYTES + 1 bytes, which `open_image` refuses."""
    with open(path, "rb", buffering=0) as file:
        return file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES + 1))


@contextlib.contextmanager
def open_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The decoded image; `name` is for the message of a Refused or Undecodable.

    The limits are checked against the headers before a pixel is decoded.
    """
    if len(data) > MAX_BYTES:
        raise Refused(f"The image {name} is longer than {MAX_BYTES:,} bytes: take it away.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            long, short = max(image.size), min(image.size)
            if _decoded_pixels(image) > max_pixels or long > MAX_ASPECT_RATIO * short:
                raise Refused(
                    f"The image {name} of {width} x {height} pixels is beyond the limits of "
                    f"1:{MAX_ASPECT_RATIO} and {max_pixels:,} pixels: take it away."
                )
            image.load()
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(f"The image {name} is too large ({error}): take it away.") from error
    except Exception as error:  # Pillow raises any of a dozen kinds on broken data
        raise Undecodable(
            f"The image {name} could not be decoded ({error}): replace it or take it away."
        ) from error


def decode(data: bytes, name: str, size: int, channels: int, warp: bool = False) -> np.ndarray:
    """Pixels uint8 [size, size, channels] of an encoded image; BadImage with its `name` if bad."""
    with open_image(data, name) as image:
        return to_pixels(image, size, channels, warp)


def to_pixels(image: Image.Image, size: int, channels: int, warp: bool = False) -> np.ndarray:
    """uint8 [size, size, channels]: RGB for 3 channels, grey for 1."""
    return resize(image.convert("L" if channels == 1 else "RGB"), size, warp)


def _decoded_pixels(image: Image.Image) -> int:
    """The number of pixels that are decoded: a tile of a TIFF may be larger than its image."""
    pixels, tags = image.width * image.height, getattr(image, "tag_v2", {})
    if TILE_WIDTH in tags and TILE_LENGTH in tags:
        return max(pixels, tags[TILE_WIDTH] * tags[TILE_LENGTH])
    return pixels


def resize(image: Image.Image, size: int, warp: bool = False) -> np.ndarray:
    """Shorter side to `size`, center cut out; an image that has this size is left as it is.

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
