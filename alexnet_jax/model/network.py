"""The Flax module that runs a list of layers in one or two towers.

Parameters have a leading tower axis, [towers, ...]; the softmax bias alone is shared. The forward
pass holds a Python list with the activations of the towers that live here: all of them on one
device, or one each when it runs inside `jax.shard_map` with the tower axis split over the mesh
axis "model". `Exchange` and `Output` are the only places where towers meet.
"""

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from alexnet_jax.model.layers import Convolution, Dense, Dropout, Exchange, Layer, Output, Shape

MODEL_AXIS = "model"
Parameters = dict[str, dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network as data: input side in pixels, channels, towers and layers, the last an Output."""

    name: str
    input_size: int
    channels: int
    towers: int
    layers: tuple[Layer, ...]

    def with_towers(self, towers: int) -> "Architecture":
        """The same widths in another number of towers; with 1 every layer is dense."""
        return dataclasses.replace(self, towers=towers)

    def with_width(self, factor: float) -> "Architecture":
        """All filters and units times `factor`, rounded to a multiple of the towers."""

        def scale(count: int) -> int:
            return max(1, round(count * factor / self.towers)) * self.towers

        def scaled(layer: Layer) -> Layer:
            match layer:
                case Convolution():
                    return dataclasses.replace(layer, filters=scale(layer.filters))
                case Dense():
                    return dataclasses.replace(layer, units=scale(layer.units))
            return layer

        return dataclasses.replace(self, layers=tuple(map(scaled, self.layers)))

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


class Weights(nnx.Module):
    """Kernel [towers, ...] from N(0, deviation) and a constant bias."""

    def __init__(self, shape: Shape, bias_shape: Shape, layer, key: jax.Array, dtype):
        self.kernel = nnx.Param(layer.deviation * jax.random.normal(key, shape, dtype))
        self.bias = nnx.Param(jnp.full(bias_shape, layer.bias, dtype))


class TowerNetwork(nnx.Module):
    """An architecture with its parameters, one `Weights` for each layer that has a name.

    Called with images [rows, side, side, channels], mean-subtracted, it gives logits
    [rows, classes] in float32 or wider. `dropout_keys`, one typed key a row, switch training on.
    """

    def __init__(self, architecture: Architecture, classes: int, key: jax.Array, dtype=jnp.float32):
        self.architecture = architecture
        towers = architecture.towers
        for index, (layer, shape) in enumerate(architecture.shapes()):
            layer_key = jax.random.fold_in(key, index)
            match layer:
                case Convolution() | Dense():
                    kernel = layer.kernel_shape(shape, towers)
                    shapes = (towers, *kernel), (towers, kernel[-1])
                case Output():
                    shapes = (towers, math.prod(shape), classes), (classes,)
                case _:
                    continue
            setattr(self, layer.name, Weights(*shapes, layer, layer_key, dtype))

    def __call__(
        self, images: jax.Array, dropout_keys: jax.Array | None = None, dtype=jnp.float32
    ) -> jax.Array:
        """Logits; `dtype` is that of activations."""
        layers, towers = self.architecture.layers, self.architecture.towers
        here = getattr(self, layers[-1].name).kernel.shape[0]
        first = jax.lax.axis_index(MODEL_AXIS) * here if here < towers else 0
        maps = [images.astype(dtype)] * here
        for index, layer in enumerate(layers):
            match layer:
                case Convolution() | Dense():
                    kernels, biases = self._weights(layer, dtype)
                    maps = [layer(*own) for own in zip(maps, kernels, biases, strict=True)]
                case Exchange():
                    maps = exchange(maps, towers)
                case Dropout():
                    maps = [
                        _dropout(layer, x, dropout_keys, index, first + tower)
                        for tower, x in enumerate(maps)
                    ]
                case Output():
                    kernels, bias = self._weights(layer, dtype)
                    partial = sum(layer(*own) for own in zip(maps, kernels, strict=True))
                    logits = jax.lax.psum(partial, MODEL_AXIS) if here < towers else partial
                    return logits + bias.astype(logits.dtype)
                case _:
                    maps = [layer(x) for x in maps]
        raise ValueError(f"The last layer of {self.architecture.name} must be an Output.")

    def _weights(self, layer: Layer, dtype) -> tuple[jax.Array, jax.Array]:
        weights = getattr(self, layer.name)
        return weights.kernel[...].astype(dtype), weights.bias[...].astype(dtype)


def exchange(maps: list[jax.Array], towers: int) -> list[jax.Array]:
    """Give every tower here the maps of all towers, tower 1 first (paper section 3.2, Figure 2)."""
    if len(maps) < towers:
        joined = jax.lax.all_gather(maps[0], MODEL_AXIS, axis=maps[0].ndim - 1, tiled=True)
    else:
        joined = jnp.concatenate(maps, axis=-1)
    return [joined] * len(maps)


def _dropout(layer: Dropout, x, keys, index: int, tower) -> jax.Array:
    if keys is None:
        return x * jnp.asarray(layer.keep, x.dtype)
    own = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, tower), index))(keys)
    return jnp.where(layer.mask(own, x.shape[1:]), x, jnp.zeros((), x.dtype))


def create(architecture: Architecture, classes: int, key: jax.Array, dtype=jnp.float32):
    """Draw a network: (graph definition, parameters as {layer: {"kernel", "bias"}})."""
    graph, state = nnx.split(TowerNetwork(architecture, classes, key, dtype))
    return graph, nnx.to_pure_dict(state)


def graph_of(architecture: Architecture, classes: int) -> nnx.GraphDef:
    """The graph definition alone, without drawing any parameter."""
    module = nnx.eval_shape(lambda: TowerNetwork(architecture, classes, jax.random.key(0)))
    return nnx.split(module)[0]


def apply(
    graph: nnx.GraphDef, parameters: Parameters, images, dropout_keys=None, dtype=jnp.float32
):
    """Logits of a graph definition with a plain dict of parameters; see TowerNetwork."""
    return nnx.merge(graph, parameters)(images, dropout_keys, dtype)


def partition_specs(architecture: Architecture, split_towers: bool) -> dict:
    """How parameters lie on a mesh: the tower axis over "model" if split, everything else whole."""
    own = PartitionSpec(MODEL_AXIS) if split_towers else PartitionSpec()
    specs = {}
    for layer in architecture.layers:
        match layer:
            case Convolution() | Dense():
                specs[layer.name] = {"kernel": own, "bias": own}
            case Output():
                specs[layer.name] = {"kernel": own, "bias": PartitionSpec()}
    return specs
