"""Figures of matplotlib, without a window, written as PNG or SVG."""

import os
import pathlib

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import atomic_write

FORMATS = (".png", ".svg")
DOTS_PER_INCH = 150


def check_figure_path(path: pathlib.Path) -> None:
    """UserError where no picture can be written there; before the work is done."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path} is no name for a picture: end it in {' or '.join(FORMATS)}.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"{path} can't be written: name a file in a folder that exists.")


def blank(width: float, height: float):
    """An empty figure, in inches, that keeps its parts from overlapping."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure, path: pathlib.Path) -> None:
    """Write a figure; the file appears whole or not at all. UserError if it can't be written."""
    check_figure_path(path)
    with atomic_write.atomic_path(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)


def write_pixels(pixels: np.ndarray, path: pathlib.Path) -> None:
    """Write uint8 [height, width, 1 or 3] as a PNG of these pixels; errors as for write_figure."""
    from PIL import Image

    check_figure_path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path} can't hold bare pixels: end its name in .png.")
    with atomic_write.atomic_path(path) as partial:
        Image.fromarray(as_colours(pixels)).save(partial, format="PNG")


def written_line(path: pathlib.Path) -> str:
    """One line on a picture that was written: its size, and for PNG its pixels."""
    from PIL import Image

    size = f"{path.stat().st_size / 1000:,.0f} kB"
    if path.suffix.lower() == ".png":
        with Image.open(path) as picture:
            size = f"{picture.width:,} x {picture.height:,} pixels, {size}"
    return f"Written: {path} ({size})."


def as_colours(image: np.ndarray) -> np.ndarray:
    """[height, width, 3] of an image of one or three channels."""
    return np.broadcast_to(image, (*image.shape[:2], 3))


def show_image(axes, image: np.ndarray, title: str, **style) -> None:
    """An image uint8 [height, width, 1 or 3] with a title, without ticks, pixels kept sharp."""
    axes.imshow(as_colours(image), interpolation="nearest")
    axes.set_title(title, **{"fontsize": 11} | style)
    axes.set(xticks=[], yticks=[])


def shortened(text: str, most: int) -> str:
    """The text, cut off with dots if it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1].rstrip(" ,") + "…"
