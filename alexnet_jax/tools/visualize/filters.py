"""The kernels of a network's first layer as pictures: the paper's Figure 3."""

import numpy as np

from alexnet_jax.model.layers import Convolution, Weighted
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.visualize import figure
from alexnet_jax.training import pictures
from alexnet_jax.weights.trained import Trained

LEFT, TOP, EDGE = 130, 100, 14  # pixels around the picture, the first two for labels
LEAST_WIDTH = 800  # of the whole, for the title


def first_kernel(trained: Trained) -> tuple[str, np.ndarray]:
    """Name and kernel [towers, height, width, channels, filters] of the first layer.

    UserError where that is no convolution of grey or coloured images.
    """
    first = next(layer for layer in trained.architecture.layers if isinstance(layer, Weighted))
    if not isinstance(first, Convolution) or trained.architecture.channels not in (1, 3):
        raise UserError(
            f"The first layer of {trained.variant.network}, {first.name}, is no convolution of "
            "grey or coloured images, so its weights are no pictures: name another network."
        )
    return first.name, trained.parameters[first.name]["kernel"]


def picture(kernel: np.ndarray, tile: int, grey: bool = False) -> np.ndarray:
    """All filters as uint8 [height, width, 1 or 3]; see training/pictures.py.

    With `grey` each is summed over the colours, which is all that grey images meet of it.
    """
    return pictures.filters(kernel.sum(axis=3, keepdims=True) if grey else kernel, tile)


def draw_filters(kernel: np.ndarray, *, name: str, network: str, tile: int, grey: bool):
    """The figure: the picture, pixel by pixel, with a label for each tower and a title."""
    from matplotlib.figure import Figure

    pixels = figure.as_colours(picture(kernel, tile, grey))
    height, width = pixels.shape[:2]
    towers, size = len(kernel), " x ".join(map(str, kernel.shape[1:4]))
    left = LEFT if towers > 1 else EDGE
    across = max(LEAST_WIDTH, left + width + EDGE)
    left += (across - left - width - EDGE) // 2
    whole = np.array([across, TOP + height + EDGE])
    drawn = Figure(figsize=tuple(whole / figure.DOTS_PER_INCH))
    place = np.array([left, EDGE, width, height]) / np.tile(whole, 2)
    axes = drawn.add_axes(tuple(place))
    axes.imshow(pixels, interpolation="none")
    axes.set_axis_off()
    tower_height = (height - (towers - 1) * pictures.TOWER_GAP) / towers
    for tower in range(towers) if towers > 1 else ():
        middle = tower * (tower_height + pictures.TOWER_GAP) + tower_height / 2
        axes.text(-14, middle, f"tower {tower + 1}", ha="right", va="center", fontsize=12)
    how = ", summed over the colours" if grey and kernel.shape[3] > 1 else ""
    title = f"{name} of {network}:\n{towers * kernel.shape[-1]} kernels of {size}{how}"
    drawn.text(0.5, 1 - TOP / 2 / whole[1], title, ha="center", va="center", fontsize=13)
    return drawn
