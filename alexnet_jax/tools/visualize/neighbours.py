"""Images with their nearest neighbours, as in the right half of the paper's Figure 4."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_jax.tools.visualize import figure

SAME, OTHER = "#2e7d32", "#c62828"  # a neighbour of the query's class and of another
TITLE = 14  # characters


@dataclasses.dataclass(frozen=True)
class Image:
    """Pixels uint8 [side, side, 1 or 3]; `name` stands above it, `kind` is its class if known."""

    pixels: np.ndarray
    name: str
    kind: str | None


def draw_neighbours(
    path: pathlib.Path, rows: Sequence[tuple[Image, Sequence[Image]]], layer: str
) -> None:
    """Write a row for each query: the query, then its neighbours, nearest first.

    All rows have equally many. UserError as for write_figure.
    """
    columns = 1 + len(rows[0][1])
    plots = figure.blank(0.35 + 1.25 * columns, 0.3 + 1.45 * len(rows))
    # An empty column sets the queries apart.
    grid = plots.add_gridspec(len(rows), columns + 1, width_ratios=[1, 0.12, *[1] * (columns - 1)])
    for row, (query, neighbours) in enumerate(rows):
        _show(plots.add_subplot(grid[row, 0]), query, "black")
        for rank, neighbour in enumerate(neighbours):
            axes = plots.add_subplot(grid[row, 2 + rank])
            known = None not in (query.kind, neighbour.kind)
            colour = "black" if not known else SAME if query.kind == neighbour.kind else OTHER
            _show(axes, neighbour, colour)
    title = f"Images (left) and those nearest to them in {layer}"
    if any(query.kind is not None for query, _ in rows):
        title += "; green: of the same class, red: of another"
    plots.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.write_figure(plots, path)


def _show(axes, image: Image, colour: str) -> None:
    pixels = np.broadcast_to(image.pixels, (*image.pixels.shape[:2], 3))
    axes.imshow(pixels)
    axes.set(xticks=[], yticks=[])
    axes.set_title(figure.shortened(image.name, TITLE), fontsize=9, color=colour, pad=3)
    axes.spines[:].set(color=colour, linewidth=1 if colour == "black" else 2)
