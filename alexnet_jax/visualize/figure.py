"""Figures of matplotlib, without a window, written as PNG or SVG."""

import os
import pathlib

from alexnet_jax.errors import UserError

FORMATS = (".png", ".svg")
DOTS_PER_INCH = 150


def check_path(path: pathlib.Path) -> None:
    """UserError where no picture can be written there; before the work is done."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path} is no name for a picture: end it in {' or '.join(FORMATS)}.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"{path} can't be written: name a file in a folder that exists.")


def blank(width: float, height: float):
    """An empty figure, in inches, that keeps its parts from overlapping."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write(figure, path: pathlib.Path) -> None:
    """Write a figure; the file appears whole or not at all. UserError if it can't be written."""
    check_path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} can't be written ({error.strerror}).") from error


def shortened(text: str, most: int) -> str:
    """The text, cut off with dots if it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1].rstrip(" ,") + "…"
