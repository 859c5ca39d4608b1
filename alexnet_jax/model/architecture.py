"""A network as data: its input, its towers, the list of its layers, and how parameters lie."""

import dataclasses
import math
from collections.abc import Iterator

import jax
from jax.sharding import PartitionSpec

from alexnet_jax.model.layers import (
    Activation,
    Convolution,
    Dense,
    Dropout,
    Hidden,
    Layer,
    LocallyConnected,
    Output,
    ReLU,
    Shape,
    TowerLayer,
    Weighted,
)
from alexnet_jax.parallel.axes import DATA_AXIS, MODEL_AXIS
from alexnet_jax.runtime.errors import UserError

Parameters = dict[str, dict[str, jax.Array]]  # {layer: {"kernel", "bias", ...}}
ParameterSpecs = dict[str, dict[str, PartitionSpec]]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network as data: input side in pixels, channels, towers and layers, the last an Output.

    `reported` is the error that its authors report, `source` where it and the network come from.
    """

    name: str
    input_size: int
    channels: int
    towers: int
    layers: tuple[Layer, ...]
    num_classes: int = 1000
    reported: str = ""
    source: str = ""

    @property
    def hidden(self) -> tuple[Hidden, ...]:
        """All layers but the last."""
        return tuple(layer for layer in self.layers if not isinstance(layer, Output))

    @property
    def output(self) -> Output:
        """The softmax layer."""
        last = self.layers[-1]
        assert isinstance(last, Output), f"the last layer of {self.name} must be an Output"
        return last

    def with_towers(self, towers: int) -> "Architecture":
        """The same widths in another number of towers; with 1 every layer is dense."""
        return dataclasses.replace(self, towers=towers)

    def with_width(self, factor: float) -> "Architecture":
        """All filters and units times `factor`, rounded to a multiple of the towers."""

        def scale(count: int) -> int:
            return max(1, round(count * factor / self.towers)) * self.towers

        def scaled(layer: Layer) -> Layer:
            match layer:
                case Convolution() | LocallyConnected():
                    return dataclasses.replace(layer, filters=scale(layer.filters))
                case Dense():
                    return dataclasses.replace(layer, units=scale(layer.units))
            return layer

        return dataclasses.replace(self, layers=tuple(map(scaled, self.layers)))

    def with_activation(self, activation: Activation) -> "Architecture":
        """The same layers with another activation in place of each ReLU."""
        layers = (activation if isinstance(layer, ReLU) else layer for layer in self.layers)
        return dataclasses.replace(self, layers=tuple(layers))

    def with_first_weights(self, factor: float) -> "Architecture":
        """The same layers, with the initial weights of the first one `factor` times as large."""
        first = next(layer for layer in self.layers if isinstance(layer, Weighted))
        larger = dataclasses.replace(first, deviation=factor * first.deviation)
        layers = (larger if layer is first else layer for layer in self.layers)
        return dataclasses.replace(self, layers=tuple(layers))

    def with_dropout_scaled(self, in_training: bool) -> "Architecture":
        """The same layers with one of the two conventions of dropout; see layers.Dropout."""

        def changed(layer: Layer) -> Layer:
            if isinstance(layer, Dropout):
                return dataclasses.replace(layer, scale_in_training=in_training)
            return layer

        return dataclasses.replace(self, layers=tuple(map(changed, self.layers)))

    def without_dropout(self) -> "Architecture":
        """The same layers without Dropout, e.g. to see whether a network can memorise."""
        kept = tuple(layer for layer in self.layers if not isinstance(layer, Dropout))
        return dataclasses.replace(self, layers=kept)

    def shapes(self) -> Iterator[tuple[Layer, Shape]]:
        """Each layer with the shape of its input in one tower, without the batch."""
        shape: Shape = (self.input_size, self.input_size, self.channels)
        for layer in self.layers:
            yield layer, shape
            if not isinstance(layer, Output):
                shape = layer.output(shape, self.towers)

    def input_shapes(self, images_shape: Shape, any_size: bool = False) -> list[Shape]:
        """The shapes of `shapes` alone, for images [batch, height, width, channels].

        UserError where the images don't fit: another number of channels; another size, unless
        `any_size`; with it a size of which nothing is left before the first dense layer.
        """
        side = self.input_size
        if len(images_shape) != 4 or images_shape[3] != self.channels:
            raise UserError(
                f"Images of the shape {images_shape} were given to the network {self.name}: "
                f"expected [batch, height, width, {self.channels}]."
            )
        if images_shape[1:3] != (side, side):
            if not any_size:
                raise UserError(
                    f"Images of {_size(images_shape)} pixels were given to the network "
                    f"{self.name}, which takes {side} x {side}: resize them, or say any_size=True "
                    "to average what comes to the first dense layer."
                )
            self._check_size(images_shape)
        return [shape for _, shape in self.shapes()]

    def _check_size(self, images_shape: Shape) -> None:
        shape: Shape = images_shape[1:]
        for layer, made_for in self.shapes():
            if isinstance(layer, Dense | Output):
                return
            if isinstance(layer, TowerLayer) and not _same(layer, shape, made_for, self.towers):
                raise UserError(
                    f"The layer {layer.name} of {self.name} has weights for {self.input_size} x "
                    f"{self.input_size} pixels, not {_size(images_shape)}: resize the images."
                )
            shape = layer.output(shape, self.towers)
            if min(shape[:2]) < 1:
                raise UserError(
                    f"Images of {_size(images_shape)} pixels are too small for the network "
                    f"{self.name}: nothing is left of them before its dense layers."
                )

    def parameter_shapes(self, num_classes: int) -> dict[str, dict[str, Shape]]:
        """{layer: {"kernel", "bias", ...}}, with the tower axis where there is one."""
        towers = self.towers
        shapes: dict[str, dict[str, Shape]] = {}
        for layer, shape in self.shapes():
            match layer:
                case Convolution() | TowerLayer() | Dense():
                    one_tower = layer.parameters(shape, towers)
                    shapes[layer.name] = {kind: (towers, *one_tower[kind]) for kind in one_tower}
                case Output():
                    kernel = (towers, math.prod(shape), num_classes)
                    shapes[layer.name] = {"kernel": kernel, "bias": (num_classes,)}
        return shapes


def partition_specs(
    architecture: Architecture, *, split_towers: bool, split_dense: bool = False
) -> ParameterSpecs:
    """How parameters lie on the mesh ("data", "model"), {layer: {kind: PartitionSpec}}.

    The tower axis lies over "model" if towers are split. If dense layers are, their units lie over
    "data", and so do the inputs of the softmax layer. All else is on every device.
    """
    model = MODEL_AXIS if split_towers else None
    shapes = architecture.parameter_shapes(architecture.num_classes)
    specs: dict[str, dict[str, tuple[str | None, ...]]] = {}
    for layer in architecture.layers:
        match layer:
            case Dense() if split_dense:
                units = {"kernel": (model, None, DATA_AXIS), "bias": (model, DATA_AXIS)}
                specs[layer.name] = units
            case Output():
                inputs = DATA_AXIS if split_dense else None
                specs[layer.name] = {"kernel": (model, inputs), "bias": ()}
            case Convolution() | TowerLayer() | Dense():
                specs[layer.name] = dict.fromkeys(shapes[layer.name], (model,))
    return {
        layer: {kind: _spec(axes) for kind, axes in kinds.items()} for layer, kinds in specs.items()
    }


def _same(layer: TowerLayer, one: Shape, other: Shape, towers: int) -> bool:
    """Whether a layer has the same parameters for inputs of both shapes."""
    return layer.parameters(one, towers) == layer.parameters(other, towers)


def _size(images_shape: Shape) -> str:
    return f"{images_shape[1]} x {images_shape[2]}"


def _spec(axes: tuple[str | None, ...]) -> PartitionSpec:
    while axes and axes[-1] is None:
        axes = axes[:-1]
    return PartitionSpec(*axes)
