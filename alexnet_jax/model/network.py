"""The Flax module that runs a list of layers in one or two towers.

Parameters have a leading tower axis, [towers, ...]; the softmax bias alone is shared. The forward
pass holds a Python list with the activations of the towers that live here: all of them on one
device, or one each when it runs inside `jax.shard_map` with the tower axis split over the mesh
axis "model". Towers meet in `Exchange` and `Output`, and in a norm that reaches across towers.

Dense layers may be split too, by units over the mesh axis "data": then a device computes its units
for the rows of all devices. `partition_specs` says how parameters lie; the forward pass sees it
from their shapes.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from alexnet_jax.model import meeting, together
from alexnet_jax.model.formulation import PLAIN, Formulation
from alexnet_jax.model.layers import (
    AcrossMapNorm,
    Activation,
    AveragePool,
    Dropout,
    Exchange,
    MaxPool,
    ReLU,
    Shape,
    SpatialNorm,
    Unweighted,
)
from alexnet_jax.model.meeting import DATA_AXIS, MODEL_AXIS, Held
from alexnet_jax.model.weighted import Convolution, Dense, LocallyConnected, Output, Weighted

Layer = Unweighted | Weighted | Output
Parameters = dict[str, dict[str, jax.Array]]


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
    classes: int = 1000
    reported: str = ""
    source: str = ""

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
        """Each layer with the shape of its input in one tower, without the rows."""
        shape: Shape = (self.input_size, self.input_size, self.channels)
        for layer in self.layers:
            yield layer, shape
            if not isinstance(layer, Output):
                shape = layer.output(shape, self.towers)

    def parameter_shapes(self, classes: int) -> dict[str, dict[str, Shape]]:
        """{layer: {"kernel", "bias", ...}}, with the tower axis where there is one."""
        towers, found = self.towers, {}
        for layer, shape in self.shapes():
            match layer:
                case Convolution() | LocallyConnected() | Dense():
                    own = layer.parameters(shape, towers)
                    found[layer.name] = {kind: (towers, *own[kind]) for kind in own}
                case Output():
                    kernel = (towers, math.prod(shape), classes)
                    found[layer.name] = {"kernel": kernel, "bias": (classes,)}
        return found


class Weights(nnx.Module):
    """The parameters of a layer: kernels from N(0, deviation) and a constant bias."""

    def __init__(self, shapes: dict[str, Shape], layer, key: jax.Array, dtype):
        for index, (kind, shape) in enumerate(shapes.items()):
            if kind == "bias":
                value = jnp.full(shape, layer.bias, dtype)
            else:
                own = jax.random.fold_in(key, index) if index else key
                value = layer.deviation * jax.random.normal(own, shape, dtype)
            setattr(self, kind, nnx.Param(value))


class TowerNetwork(nnx.Module):
    """An architecture with its parameters, one `Weights` for each layer that has a name.

    Called with images [rows, side, side, channels], mean-subtracted, it gives logits
    [rows, classes] in float32 or wider. `dropout_keys`, one typed key a row, switch training on;
    where dense layers are split they are those of all devices' rows.
    """

    def __init__(self, architecture: Architecture, classes: int, key: jax.Array, dtype=jnp.float32):
        self.architecture, self.classes = architecture, classes
        shapes = architecture.parameter_shapes(classes)
        for index, layer in enumerate(architecture.layers):
            if isinstance(layer, Weighted | Output):
                own_key = jax.random.fold_in(key, index)
                setattr(self, layer.name, Weights(shapes[layer.name], layer, own_key, dtype))

    def __call__(
        self,
        images: jax.Array,
        dropout_keys: jax.Array | None = None,
        dtype=jnp.float32,
        seen: Callable[[int, list[jax.Array]], None] = lambda index, maps: None,
        formulation: Formulation = PLAIN,
    ) -> jax.Array:
        """Logits; `dtype` is that of activations.

        `seen` is told the index of each layer but the last and its activations in the towers that
        live here, while the network is traced.
        """
        layers, towers = self.architecture.layers, self.architecture.towers
        here = getattr(self, layers[-1].name).kernel.shape[0]
        first = jax.lax.axis_index(MODEL_AXIS) * here if here < towers else 0
        images = images.astype(dtype)
        maps, held = [images] * here, Held.ROWS
        for index, layer in enumerate(layers):
            if not together.is_alike(layer):
                maps = together.apart(maps, here)
            match layer:
                case Convolution() | LocallyConnected() | Dense():
                    own = self._weights(layer, dtype)
                    if isinstance(layer, Dense) and own["bias"].shape[1] < layer.units // towers:
                        maps, held = meeting.gather(maps, held), Held.UNITS
                    maps = together.weighted(layer, maps, own, images, formulation)
                case Exchange() if len(maps) < here:
                    maps = maps * here
                case Exchange():
                    if held is Held.UNITS:
                        maps, held = meeting.gather(maps, held), Held.ALL
                    maps = meeting.exchange(maps, towers)
                case AcrossMapNorm(across_towers=True) if here == towers:
                    maps = layer.across(maps, formulation)
                case AcrossMapNorm(across_towers=True):
                    joined = layer(meeting.exchange(maps, towers)[0], formulation)
                    maps = meeting.share(joined, here, towers, first)
                case AcrossMapNorm() | SpatialNorm() | MaxPool() | AveragePool():
                    maps = [layer(x, formulation) for x in maps]
                case Dropout() if dropout_keys is not None:
                    keys = meeting.keys_of_rows(dropout_keys, len(maps[0]))
                    masks = _masks(layer, maps[0], keys, first + jnp.arange(here), index, held)
                    maps = [layer.training(*both) for both in zip(maps, masks, strict=True)]
                case Output():
                    own = self._weights(layer, dtype)
                    partial = together.partial_logits(layer, maps, own["kernel"], formulation)
                    if held is Held.UNITS:
                        partial = meeting.sum_to_rows(partial)
                    logits = jax.lax.psum(partial, MODEL_AXIS) if here < towers else partial
                    return logits + own["bias"].astype(logits.dtype)
                case _:
                    maps = [layer(x) for x in maps]
            seen(index, together.apart(maps, here))
        raise ValueError(f"The last layer of {self.architecture.name} must be an Output.")

    def _weights(self, layer: Weighted | Output, dtype) -> dict[str, jax.Array]:
        parameters = nnx.to_pure_dict(nnx.state(getattr(self, layer.name)))
        return {kind: value.astype(dtype) for kind, value in parameters.items()}


def _masks(
    layer: Dropout, x: jax.Array, keys: jax.Array, towers: jax.Array, index: int, held: Held
) -> list[jax.Array]:
    """A mask for the array of each of `towers`, all like `x`, drawn from the keys of its rows."""
    devices = jax.lax.axis_size(DATA_AXIS) if held is Held.UNITS else 1
    shape = (*x.shape[1:-1], x.shape[-1] * devices)

    def of_a_row(key, tower):
        return jax.random.fold_in(jax.random.fold_in(key, tower), index)

    def of_a_tower(tower):
        return layer.mask(jax.vmap(of_a_row, (0, None))(keys, tower), shape)

    return [meeting.own_part(mask, x.shape[-1]) for mask in jax.vmap(of_a_tower)(towers)]


def create(architecture: Architecture, classes: int, key: jax.Array, dtype=jnp.float32):
    """Draw a network: (graph definition, parameters as {layer: {"kernel", "bias"}})."""
    graph, state = nnx.split(TowerNetwork(architecture, classes, key, dtype))
    return graph, nnx.to_pure_dict(state)


def graph_of(architecture: Architecture, classes: int) -> nnx.GraphDef:
    """The graph definition alone, without drawing any parameter."""
    module = nnx.eval_shape(lambda: TowerNetwork(architecture, classes, jax.random.key(0)))
    return nnx.split(module)[0]


def apply(
    graph: nnx.GraphDef,
    parameters: Parameters,
    images,
    dropout_keys=None,
    dtype=jnp.float32,
    formulation: Formulation = PLAIN,
):
    """Logits of a graph definition with a plain dict of parameters; see TowerNetwork."""
    module = nnx.merge(graph, parameters)
    return module(images, dropout_keys, dtype, formulation=formulation)


def partition_specs(
    architecture: Architecture, split_towers: bool, split_dense: bool = False
) -> dict:
    """How parameters lie on a mesh, {layer: {kind: PartitionSpec}}.

    The tower axis lies over "model" if towers are split. If dense layers are, their units lie over
    "data", and so do the inputs of the softmax layer. All else is on every device.
    """
    model = MODEL_AXIS if split_towers else None
    shapes, specs = architecture.parameter_shapes(architecture.classes), {}
    for layer in architecture.layers:
        match layer:
            case Dense() if split_dense:
                units = {"kernel": (model, None, DATA_AXIS), "bias": (model, DATA_AXIS)}
                specs[layer.name] = units
            case Output():
                inputs = DATA_AXIS if split_dense else None
                specs[layer.name] = {"kernel": (model, inputs), "bias": ()}
            case Convolution() | LocallyConnected() | Dense():
                specs[layer.name] = dict.fromkeys(shapes[layer.name], (model,))
    return {
        layer: {kind: _spec(axes) for kind, axes in kinds.items()} for layer, kinds in specs.items()
    }


def _spec(axes: tuple[str | None, ...]) -> PartitionSpec:
    while axes and axes[-1] is None:
        axes = axes[:-1]
    return PartitionSpec(*axes)
