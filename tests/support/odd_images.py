"""Image files as sets in the wild hold them, {name: bytes}, made by Pillow."""

import io

import numpy as np
from PIL import Image

ROTATED_TO_THE_RIGHT = 6  # what a camera held upright writes as its EXIF orientation
ORIENTATION_TAG = 0x0112


def jpeg(width, height, seed, mode="RGB", quality=90, **options):
    """A smooth JPEG of this size, every seed another one."""
    return encoded(picture(width, height, seed, mode), "JPEG", quality=quality, **options)


def picture(width, height, seed, mode="RGB"):
    """A few random colours, enlarged smoothly."""
    shape = (4, 4, len(Image.new(mode, (1, 1)).getbands()))
    colours = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    bands = [Image.fromarray(band) for band in np.moveaxis(colours, 2, 0)]
    return Image.merge(mode, bands).resize((width, height), Image.Resampling.BICUBIC)


def odd_images():
    """Those that can be decoded, and the truncated one, which can't."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = ROTATED_TO_THE_RIGHT
    whole = jpeg(60, 50, seed=6)
    return {
        "cmyk.JPEG": jpeg(40, 30, seed=1, mode="CMYK"),  # Pillow inverts it, with Adobe's marker
        "png.JPEG": encoded(picture(40, 30, seed=2), "PNG"),
        "rotated.JPEG": jpeg(48, 32, seed=3, exif=exif),
        "grey.JPEG": jpeg(30, 40, seed=4, mode="L"),
        "line.JPEG": jpeg(1, 5000, seed=5),
        "truncated.JPEG": whole[: len(whole) // 2],
    }


def encoded(image, kind, **options):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
