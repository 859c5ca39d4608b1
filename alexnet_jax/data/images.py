"""One way from an encoded image to stored pixels, for every user of an image file.

Paper section 2: the shorter side is rescaled to 256 and the central 256 x 256 patch is cut out.
As in the authors' later preparation script (cuda-convnet2, 2014): by area when shrinking, bicubic
when enlarging. Rotation tags are not applied, as in 2012.
"""

import contextlib
import io
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from alexnet_jax.runtime.errors import UserError

# An image beyond these is refused: at 1:50 the central square shows a fiftieth of it, and what is
# read before it is cut out grows with both.
MOST_SIDES_RATIO = 50
MOST_PIXELS = 100_000_000
MOST_BYTES = 512 * 2**20  # of a file: a bare one of so many pixels is shorter
# Pillow knows others, and hands EPS to a program that runs it.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF


class BadImage(UserError):
    """An image that cannot be used, with the reason."""


class Refused(BadImage):
    """Beyond MOST_SIDES_RATIO, MOST_PIXELS or MOST_BYTES."""


class Undecodable(BadImage):
    """No image, of an unknown format, or broken."""


def read(path: str | os.PathLike) -> bytes:
    """An image file, or so much of one beyond MOST_BYTES that `opened` refuses it."""
    with open(path, "rb", buffering=0) as file:
        return file.read(min(os.fstat(file.fileno()).st_size, MOST_BYTES + 1))


@contextlib.contextmanager
def opened(data: bytes, name: str, most_pixels: int = MOST_PIXELS) -> Iterator[Image.Image]:
    """The decoded image; `name` is for the sentence of a Refused or Undecodable.

    What the headers say is judged before a pixel is decoded.
    """
    if len(data) > MOST_BYTES:
        raise Refused(f"The image {name} is longer than {MOST_BYTES:,} bytes: take it away.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            long, short = max(image.size), min(image.size)
            if _decoded(image) > most_pixels or long > MOST_SIDES_RATIO * short:
                raise Refused(
                    f"The image {name} of {width} x {height} pixels is beyond the limits of "
                    f"1:{MOST_SIDES_RATIO} and {most_pixels:,} pixels: take it away."
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
    """uint8 [size, size, channels] of an encoded image; BadImage, with its `name`, if unusable."""
    with opened(data, name) as image:
        return pixels_of(image, size, channels, warp)


def pixels_of(image: Image.Image, size: int, channels: int, warp: bool = False) -> np.ndarray:
    """uint8 [size, size, channels]: RGB for 3 channels, grey for 1."""
    return resize(image.convert("L" if channels == 1 else "RGB"), size, warp)


def _decoded(image: Image.Image) -> int:
    """The most pixels that are decoded at once: a tile of a TIFF may be larger than its image."""
    pixels, tags = image.width * image.height, getattr(image, "tag_v2", {})
    if TILE_WIDTH in tags and TILE_LENGTH in tags:
        return max(pixels, tags[TILE_WIDTH] * tags[TILE_LENGTH])
    return pixels


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
