"""Pictures of a run for TensorBoard: the first layer's filters, and what the network sees."""

import math

import numpy as np

GAP = 2  # pixels between tiles
TOWER_GAP = 8  # and between towers
GREY = 128  # stands for zero


def filters(kernel: np.ndarray, tile: int = 44) -> np.ndarray:
    """All filters of a first layer as one picture, tower 1 above tower 2 (the paper's Figure 3).

    `kernel` is [towers, height, width, channels, filters]. Each filter is scaled by its own largest
    weight, with zero as grey, and enlarged to about `tile` pixels. uint8 [height, width, channels].
    """
    towers, height, _, _, count = kernel.shape
    tiles = np.moveaxis(kernel, -1, 1).astype(np.float32)
    largest = np.abs(tiles).max(axis=(2, 3, 4), keepdims=True)
    pixels = _to_pixels(127 * tiles / np.maximum(largest, 1e-12))
    columns = _columns(count)
    scale = max(1, tile // height)
    grids = [grid(_enlarge(pixels[tower], scale), columns) for tower in range(towers)]
    gap = np.full((TOWER_GAP, *grids[0].shape[1:]), 255, np.uint8)
    return np.concatenate([part for own in grids for part in (gap, own)][1:])


def inputs(
    inputs: np.ndarray, scale: float | np.ndarray, zero: int = GREY, tile: int = 64
) -> np.ndarray:
    """Training images as the network sees them, in one picture: mean-subtracted, zero as grey.

    `inputs` is [batch, side, side, channels] in grey levels divided by `scale`, one number or one a
    channel; `zero` is 0 where no mean was subtracted. Small ones are enlarged to about `tile`
    pixels.
    """
    pixels = _enlarge(_to_pixels(inputs * scale, zero), max(1, tile // inputs.shape[1]))
    return grid(pixels, _columns(len(pixels)))


def grid(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles uint8 [n, height, width, channels] row by row, GAP white pixels apart."""
    count, height, width, channels = tiles.shape
    rows = -(-count // columns)
    picture = np.full(
        (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), 255, np.uint8
    )
    for index, tile in enumerate(tiles):
        top, left = (GAP + place * (size + GAP) for place, size in
                     zip(divmod(index, columns), (height, width), strict=True))  # fmt: skip
        picture[top : top + height, left : left + width] = tile
    return picture


def _columns(count: int) -> int:
    """About twice as wide as high, preferring full rows: 48 filters lie in 4 rows of 12."""
    wanted = math.ceil(math.sqrt(2 * count))
    fitting = [n for n in range(wanted, count + 1) if count % n == 0]
    return fitting[0] if fitting and fitting[0] <= 2 * wanted else min(wanted, count)


def _enlarge(tiles: np.ndarray, scale: int) -> np.ndarray:
    return tiles.repeat(scale, axis=1).repeat(scale, axis=2)


def _to_pixels(values: np.ndarray, zero: int = GREY) -> np.ndarray:
    return np.clip(np.round(values + zero), 0, 255).astype(np.uint8)
