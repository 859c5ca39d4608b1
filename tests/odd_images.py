"""Encoded images: ordinary ones, and each kind of trouble that real data sets hold."""

import io

import numpy as np
from PIL import Image

GOOD = ("cmyk.JPEG", "png_inside.JPEG", "rotated.JPEG", "grey.JPEG")
REFUSED, UNDECODABLE = "thin.JPEG", "truncated.JPEG"


def pixels(seed, height=300, width=400):
    """Smooth noise, so that JPEG keeps it well."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ordinary(seed, height=300, width=400):
    return encoded(Image.fromarray(pixels(seed, height, width)), quality=90)


def odd_images():
    """{name: bytes}: GOOD ones are kept, the other two left out."""
    image = Image.fromarray(pixels(99))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    whole = ordinary(98)
    return {
        "cmyk.JPEG": encoded(image.convert("CMYK"), quality=90),
        "png_inside.JPEG": encoded(image, "PNG"),
        "rotated.JPEG": encoded(image, quality=90, exif=rotated),
        "grey.JPEG": encoded(image.convert("L"), quality=90),
        REFUSED: encoded(Image.fromarray(pixels(97, 20, 5000)[:1]), quality=90),
        UNDECODABLE: whole[: len(whole) // 2],
    }
