"""An image on its way through a network: feature maps as grids, dense units as bars."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from alexnet_jax.data import augment, synsets
from alexnet_jax.model.intermediates import activation_places
from alexnet_jax.model.layers import Output, Weighted
from alexnet_jax.tools import inference
from alexnet_jax.tools.visualize import figure
from alexnet_jax.weights.trained import Trained

TOWER_COLOURS = ("#c0504d", "#1f6fb2")  # as in model/drawing.py
OTHER = "#4b4b4b"
WIDTH, HEIGHT = 13.3, 7.5  # inches
LEAST_SIDE = 28  # to which small feature maps are enlarged, so that the gaps are narrow
WHITE_SHARE = 99.5  # per cent of a layer's values lie within the scale
LIKELIEST = 5


@dataclasses.dataclass(frozen=True)
class LayerActivations:
    """A layer's activations of an image, [towers, height, width, channels] or [towers, units]."""

    name: str
    values: np.ndarray


def layer_names(trained: Trained) -> tuple[str, ...]:
    """The activations of each layer with weights, after the function that belongs to it."""
    places = activation_places(trained.architecture)
    weighted = [layer.name for layer in trained.architecture.layers if isinstance(layer, Weighted)]
    names = []
    for name in weighted:
        # Where a pool or norm stands between, the function's result is called NAME.relu.
        candidates = (f"{name}.{kind}" for kind in ("relu", "tanh", "sigmoid"))
        names.append(next((candidate for candidate in candidates if candidate in places), name))
    return tuple(names)


def capture_layers(
    trained: Trained, image: np.ndarray, names: Sequence[str]
) -> list[LayerActivations]:
    """The activations of these names for an image uint8 [size, size, channels].

    UserError for a name that the network does not have.
    """
    forward = inference.activations_of(trained, tuple(names))
    captured = forward(trained.parameters, image[None])
    return [
        LayerActivations(name, _by_tower(trained, name, np.asarray(captured[name][0])))
        for name in names
    ]


def _by_tower(trained: Trained, name: str, values: np.ndarray) -> np.ndarray:
    """The tower axis first; the classes are one tower's."""
    last = next(layer for layer in trained.architecture.layers if isinstance(layer, Output))
    towers = 1 if name == last.name else trained.architecture.towers
    return np.moveaxis(values.reshape(*values.shape[:-1], towers, -1), -2, 0)


def grid(feature_maps: np.ndarray, wide: float) -> np.ndarray:
    """Feature maps [height, width, channels] tiled in one array [height, width], gaps as NaN.

    The number of columns is the one at which the whole is nearest to `wide` times as wide as high.
    """
    times = -(-LEAST_SIDE // feature_maps.shape[0])
    feature_maps = feature_maps.repeat(times, axis=0).repeat(times, axis=1)
    height, width, count = feature_maps.shape
    gap = max(2, height // 14)
    rows_of = {columns: -(-count // columns) for columns in range(1, count + 1)}

    def unlike(columns: int) -> float:
        shape = columns * (width + gap) / (rows_of[columns] * (height + gap))
        return abs(np.log(shape / wide)) + (rows_of[columns] * columns - count) / count

    columns = min(rows_of, key=unlike)
    rows = rows_of[columns]
    whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for index in range(count):
        top, left = np.multiply(divmod(index, columns), (height + gap, width + gap))
        whole[top : top + height, left : left + width] = feature_maps[..., index]
    return whole


def draw_layers(
    trained: Trained, image: np.ndarray, layers: Sequence[LayerActivations], logits: np.ndarray
):
    """The figure of all layers: feature maps above, dense units and the likeliest classes below."""
    drawn = figure.blank(WIDTH, HEIGHT)
    spatial = [layer for layer in layers if layer.values.ndim == 4]
    dense = [layer for layer in layers if layer.values.ndim == 2]
    above, below = drawn.subfigures(2, 1, height_ratios=(4.6, 2.2) if dense else (4.6, 1.8))
    image_axes, *columns = above.subplots(
        1, 1 + len(spatial), width_ratios=[1.0] + [1.15] * len(spatial), squeeze=False
    )[0]
    crop = trained.architecture.input_size
    figure.show_image(image_axes, augment.center_crop(image, crop), f"{crop} x {crop} pixels")
    # A column's width against its height, titles and margins apart.
    wide = 1.1 * WIDTH / (1 + 1.15 * len(spatial)) / (0.58 * HEIGHT)
    for axes, layer in zip(columns, spatial, strict=True):
        _draw_column(axes, layer, wide, labelled=axes is columns[0])
    parts = below.subplots(1, len(dense) + 1, width_ratios=[1.5] * len(dense) + [1], squeeze=False)
    for axes, layer in zip(parts[0], dense, strict=False):
        _draw_units(axes, layer)
    _draw_classes(parts[0, -1], trained, logits)
    return drawn


def draw_layer(layer: LayerActivations, subject: str):
    """The figure of one layer: each tower's feature maps or units, with the scale of values."""
    drawn = figure.blank(WIDTH, HEIGHT)
    drawn.suptitle(f"{_summary(layer)}  ({subject})", fontsize=14)
    towers = len(layer.values)
    if layer.values.ndim == 2:
        _draw_units(drawn.subplots(), layer)
        return drawn
    columns = drawn.subplots(1, towers, squeeze=False)[0]
    for tower, axes in enumerate(columns):
        shown = _draw_feature_maps(
            axes,
            grid(layer.values[tower], 0.9 * WIDTH / (0.82 * HEIGHT) / towers),
            _scale(layer.values),
        )
        if towers > 1:
            axes.set_title(f"tower {tower + 1}", fontsize=12, color=TOWER_COLOURS[tower])
    drawn.colorbar(shown, ax=list(columns), shrink=0.8, pad=0.01, extend="max")
    return drawn


def _summary(layer: LayerActivations) -> str:
    if layer.values.ndim == 2:
        return f"{layer.name}: {layer.values.size:,} units"
    towers, height, width, feature_maps = layer.values.shape
    return f"{layer.name}: {towers * feature_maps} maps of {height} x {width}"


def _draw_column(axes, layer: LayerActivations, wide: float, labelled: bool) -> None:
    """The feature maps of a layer, tower 1 above tower 2, inside `axes`."""
    axes.set_axis_off()
    name, shape = _summary(layer).split(": ")
    axes.set_title(f"{name}\n{shape}", fontsize=11)
    towers = len(layer.values)
    for tower, tower_values in enumerate(layer.values):
        high = 1 / towers
        part = axes.inset_axes((0, 1 - (tower + 1) * high + 0.01, 1, high - 0.02))
        _draw_feature_maps(part, grid(tower_values, wide * towers), _scale(layer.values))
        if towers > 1:
            for spine in part.spines.values():
                spine.set(color=TOWER_COLOURS[tower], linewidth=1.5)
            if labelled:
                part.set_ylabel(f"tower {tower + 1}", color=TOWER_COLOURS[tower], fontsize=11)


def _scale(values: np.ndarray) -> tuple[float, float, str]:
    """Least and largest value shown and the colours: grey, or two colours around zero."""
    largest = float(np.percentile(np.abs(values), WHITE_SHARE)) or float(np.abs(values).max()) or 1
    return (-largest, largest, "RdBu_r") if values.min() < 0 else (0.0, largest, "gray")


def _draw_feature_maps(axes, whole: np.ndarray, scale: tuple[float, float, str]):
    low, high, colours = scale
    axes.set(xticks=[], yticks=[])
    return axes.imshow(whole, vmin=low, vmax=high, cmap=colours, interpolation="nearest")


def _draw_units(axes, layer: LayerActivations) -> None:
    first, towers = 0, len(layer.values)
    for tower, tower_values in enumerate(layer.values):
        places = np.arange(first, first + len(tower_values))
        colour = TOWER_COLOURS[tower] if towers > 1 else OTHER
        axes.vlines(
            places, 0, tower_values, color=colour, lw=max(0.4, min(3, 350 / layer.values.size))
        )
        if towers > 1:
            axes.text(places.mean(), 1.0, f"tower {tower + 1}", color=colour, ha="center",
                      va="bottom", fontsize=10, transform=axes.get_xaxis_transform())  # fmt: skip
        first += len(tower_values)
    axes.set_xlim(-1, first)
    if layer.values.min() >= 0:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(_summary(layer), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_classes(axes, trained: Trained, logits: np.ndarray) -> None:
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")[:LIKELIEST]
    places = np.arange(len(order))
    axes.barh(places, probabilities[order], color="#aebbdc", height=0.9)
    for place, label in zip(places, order, strict=True):
        name = figure.shortened(synsets.words(trained.classes[label]), 22)
        axes.text(0.02, place, f"{name}  {probabilities[label]:.1%}", va="center", fontsize=10)
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.4, -0.6), xticks=[], yticks=[])
    axes.set_xlabel("likeliest classes", fontsize=11)
