"""Images with their five likeliest classes, as in the left half of the paper's Figure 4."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_jax.tools.visualize import figure

COLUMNS = 4
RIGHT, WRONG = "#e58a8d", "#aebbdc"  # bars of the true class and of the others


@dataclasses.dataclass(frozen=True)
class PredictionPanel:
    """An image uint8 [side, side, channels] with its predicted classes, likeliest first.

    `truth` is the name of its class, or empty where that is not known.
    """

    image: np.ndarray
    title: str
    truth: str
    names: tuple[str, ...]
    probabilities: tuple[float, ...]


def draw_predictions(path: pathlib.Path, panels: Sequence[PredictionPanel]) -> None:
    """Write the figure, four images a row, each above its bars; UserError as for write_figure."""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    plots = figure.blank(2.6 * columns, 3.9 * rows)
    grid = plots.add_gridspec(2 * rows, columns, height_ratios=(2.4, 1.1) * rows)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        _image(plots.add_subplot(grid[2 * row, column]), panel)
        _bars(plots.add_subplot(grid[2 * row + 1, column]), panel)
    figure.write_figure(plots, path)


def _image(axes, panel: PredictionPanel) -> None:
    grey = panel.image.shape[-1] == 1
    axes.imshow(panel.image[..., 0] if grey else panel.image, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(figure.shortened(panel.truth or panel.title, 28), fontsize=11, weight="bold")


def _bars(axes, panel: PredictionPanel) -> None:
    places = range(len(panel.names))
    colours = [RIGHT if panel.truth and name == panel.truth else WRONG for name in panel.names]
    axes.barh(places, panel.probabilities, color=colours, height=0.9)
    for place, name, probability in zip(places, panel.names, panel.probabilities, strict=True):
        text = f"{figure.shortened(name, 24)}  {probability:.1%}"
        axes.text(0.02, place, text, va="center", fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(panel.names) - 0.4, -0.6), xticks=[], yticks=[])
