"""AlexNet: the Flax module that runs a list of layers in one or two towers.

Parameters have a leading tower axis, [towers, ...]; the softmax bias alone is shared. The forward
pass holds a Python list with the activations of the towers that live here: all of them on one
device, or one each when it runs inside `jax.shard_map` with the tower axis split over the mesh
axis "model". Towers meet in `Exchange` and `Output`, and in a norm that reaches across towers.

Dense layers may be split too, by units over the mesh axis "data": then a device computes its units
for the examples of all devices. architecture.partition_specs says how parameters lie; the forward
pass sees it from their shapes.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from alexnet_jax.model import collectives, networks
from alexnet_jax.model.architecture import Architecture, Parameters
from alexnet_jax.model.collectives import Layout
from alexnet_jax.model.layers import (
    Activation,
    AveragePool,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Layer,
    MaxPool,
    Output,
    ResponseNorm,
    Shape,
    SpatialNorm,
    TowerLayer,
    Weighted,
)
from alexnet_jax.model.ops import REFERENCE, Operations, Params, average_to
from alexnet_jax.parallel.axes import DATA_AXIS, MODEL_AXIS
from alexnet_jax.runtime.errors import UserError

Capture = Callable[[int, list[jax.Array]], None]


class LayerParams(nnx.Module):
    """The parameters of a layer: "kernel", "bias" and "low_kernel" for a low-resolution input."""

    def __init__(self, arrays: Params):
        for kind, value in arrays.items():
            setattr(self, kind, nnx.Param(value))


class AlexNet(nnx.Module):
    """A network with its parameters, one `LayerParams` for each layer that has a name.

    `architecture` is a list of layers or the name of one of `model.networks`; `num_classes` is by
    default as many as its authors had. `dtype` is that of activations, `param_dtype` that of
    parameters. `operations` compute: by default the plain ones of ops.py.

    Called with images [batch, side, side, channels], mean-subtracted, it gives logits
    [batch, num_classes] in float32 or wider. As in other modules of flax.nnx dropout is on until
    `model.eval()`, and on again after `model.train()`; its masks come from the stream "dropout" of
    `rngs`, or from the keys that a call brings. UserError for a name that does not exist.
    """

    def __init__(
        self,
        architecture: Architecture | str = "net145",
        num_classes: int | None = None,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        operations: Operations = REFERENCE,
    ):
        if isinstance(architecture, str):
            architecture = networks.named(architecture)
        self.architecture, self.dtype, self.operations = architecture, dtype, operations
        self.num_classes = architecture.num_classes if num_classes is None else num_classes
        self.deterministic = False  # set by nnx.Module.eval and nnx.Module.train
        has_dropout = any(isinstance(layer, Dropout) for layer in architecture.hidden)
        self.dropout_rngs = rngs.dropout.fork() if has_dropout else None
        drawn = draw_parameters(architecture, self.num_classes, rngs.params(), param_dtype)
        for name, arrays in drawn.items():
            if hasattr(self, name):
                raise UserError(
                    f"A layer of {architecture.name} is called {name}: rename it, since "
                    "modules of Flax have something of that name."
                )
            setattr(self, name, LayerParams(arrays))

    def __call__(
        self,
        images: jax.Array,
        dropout_keys: jax.Array | None = None,
        capture: Capture = lambda index, towers: None,
        any_size: bool = False,
    ) -> jax.Array:
        """Logits [batch, num_classes].

        `dropout_keys`, one typed key an example, are what dropout draws from; where dense layers
        are split they are those of all devices' examples. While the network is traced, `capture`
        gets the index of each layer but the last and its activations in the towers that live here.
        With `any_size` images may have another size than the network's: what comes to the first
        dense layer is averaged to the size that it has weights for. Else UserError.
        """
        ops, num_towers = self.operations, self.architecture.towers
        input_shapes = self.architecture.input_shapes(images.shape, any_size)
        dropout_keys = self._dropout_keys(dropout_keys, images)
        output_params = self._params(self.architecture.output)
        local_towers = output_params["kernel"].shape[0]
        split = local_towers < num_towers  # over the mesh axis "model"
        first = jax.lax.axis_index(MODEL_AXIS) * local_towers if split else 0
        images = images.astype(self.dtype)
        towers, layout = [images] * local_towers, Layout.EXAMPLES
        for index, layer in enumerate(self.architecture.hidden):
            if not works_on_joined_towers(layer):
                towers = separate_towers(towers, local_towers)
            match layer:
                case Convolution():
                    params = self._params(layer)
                    towers = ops.convolution_of_towers(layer, towers, params, images, ops)
                case TowerLayer():
                    params = self._params(layer)
                    towers = [layer(x, _of_tower(params, i)) for i, x in enumerate(towers)]
                case Dense():
                    params, towers = self._params(layer), _fitted(towers, input_shapes[index])
                    if params["bias"].shape[1] < layer.units // num_towers:
                        towers, layout = collectives.gather(towers, layout), Layout.UNITS
                    towers = ops.dense_of_towers(towers, params)
                case Exchange() if len(towers) < local_towers:  # joined already
                    towers = towers * local_towers
                case Exchange():
                    if layout is Layout.UNITS:
                        towers, layout = collectives.gather(towers, layout), Layout.ALL
                    joined = collectives.all_towers(towers) if split else join_towers(towers)
                    towers = [joined] * local_towers
                case ResponseNorm(across_towers=True) if not split:
                    towers = layer.across(towers, ops)
                case ResponseNorm(across_towers=True):
                    joined = layer(collectives.all_towers(towers), ops)
                    towers = collectives.split_towers(
                        joined, local_towers=local_towers, num_towers=num_towers, first=first
                    )
                case Dropout() if dropout_keys is not None:
                    towers = _drop(layer, towers, dropout_keys, first, index, layout)
                case _:
                    towers = [layer(x, ops) for x in towers]
            capture(index, separate_towers(towers, local_towers))
        towers = _fitted(separate_towers(towers, local_towers), input_shapes[-1])
        return self._logits(towers, output_params, layout)

    def _logits(self, towers: list[jax.Array], params: Params, layout: Layout) -> jax.Array:
        logits = self.operations.logits_of_towers(towers, params["kernel"])
        if layout is Layout.UNITS:
            logits = collectives.sum_to_examples(logits)
        if len(towers) < self.architecture.towers:
            logits = jax.lax.psum(logits, MODEL_AXIS)
        return logits + params["bias"].astype(logits.dtype)

    def _dropout_keys(self, keys: jax.Array | None, images: jax.Array) -> jax.Array | None:
        """One key an example, or None where dropout is off; see `eval` and `train`."""
        if self.deterministic:
            return None
        if keys is None and self.dropout_rngs is not None:
            return jax.random.split(self.dropout_rngs(), len(images))
        return keys

    def _params(self, layer: Weighted | Output) -> Params:
        stored = nnx.to_pure_dict(nnx.state(getattr(self, layer.name)))
        return {kind: value.astype(self.dtype) for kind, value in stored.items()}


def draw_parameters(
    architecture: Architecture, num_classes: int, key: jax.Array, param_dtype=jnp.float32
) -> Parameters:
    """Initial parameters: kernels from N(0, deviation), untruncated, and constant biases."""
    shapes, drawn = architecture.parameter_shapes(num_classes), {}
    for index, layer in enumerate(architecture.layers):
        if not isinstance(layer, Weighted | Output):
            continue
        layer_key, arrays = jax.random.fold_in(key, index), {}
        for number, (kind, shape) in enumerate(shapes[layer.name].items()):
            if kind == "bias":
                arrays[kind] = jnp.full(shape, layer.bias, param_dtype)
            else:
                kind_key = jax.random.fold_in(layer_key, number) if number else layer_key
                arrays[kind] = layer.deviation * jax.random.normal(kind_key, shape, param_dtype)
        drawn[layer.name] = arrays
    return drawn


@functools.cache
def graph_of(
    architecture: Architecture,
    num_classes: int,
    dtype=jnp.float32,
    operations: Operations = REFERENCE,
) -> nnx.GraphDef:
    """The graph definition of an AlexNet, without drawing any parameter.

    It has no randomness of its own: dropout is on where a call has keys for it.
    """

    def create() -> AlexNet:
        rngs = nnx.Rngs(0)
        model = AlexNet(architecture, num_classes, rngs=rngs, dtype=dtype, operations=operations)
        model.dropout_rngs = None
        return model

    return nnx.split(nnx.eval_shape(create))[0]


def with_parameters(architecture: Architecture, parameters: Parameters, seed: int = 0) -> AlexNet:
    """An AlexNet with these parameters, copied; `seed` is that of its dropout."""
    num_classes = parameters[architecture.output.name]["bias"].shape[0]
    model = AlexNet(architecture, num_classes, rngs=nnx.Rngs(seed))
    nnx.update(model, jax.tree.map(jnp.array, parameters))
    return model


def apply(graph: nnx.GraphDef, parameters: Parameters, images, dropout_keys=None) -> jax.Array:
    """Logits of a graph definition with a plain dict of parameters; see AlexNet.__call__."""
    return nnx.merge(graph, parameters)(images, dropout_keys)


def _fitted(towers: list[jax.Array], shape: Shape) -> list[jax.Array]:
    """Feature maps averaged to the height and width of `shape`."""
    return [average_to(x, *shape[:2]) if x.ndim == 4 else x for x in towers]


def works_on_joined_towers(layer: Layer) -> bool:
    """Whether a layer does the same to one tower and to all towers' channels side by side.

    Kernels may join the towers in one array: `towers` then has that one item.
    """
    match layer:
        case ResponseNorm():
            return layer.across_towers
        case Activation() | SpatialNorm() | MaxPool() | AveragePool() | Exchange():
            return True
    return False


def separate_towers(towers: list[jax.Array], count: int) -> list[jax.Array]:
    """The arrays of `count` towers, if their channels were side by side in one array."""
    return towers if len(towers) == count else jnp.split(towers[0], count, axis=-1)


def join_towers(towers: list[jax.Array]) -> jax.Array:
    """The channels of all towers, tower 1 first (paper section 3.2, Figure 2)."""
    return jnp.concatenate(towers, axis=-1)


def _of_tower(params: Params, tower: int) -> Params:
    return {kind: value[tower] for kind, value in params.items()}


def _drop(
    layer: Dropout,
    towers: list[jax.Array],
    dropout_keys: jax.Array,
    first: jax.Array | int,
    index: int,
    layout: Layout,
) -> list[jax.Array]:
    """Dropout of layer number `index` in the towers from number `first` on.

    A mask depends on an example's key, the layer and the tower alone.
    """
    x, keys = towers[0], dropout_keys
    if len(keys) > len(x):  # those of all devices' examples
        keys = collectives.local_keys(keys, len(x))
    devices = jax.lax.axis_size(DATA_AXIS) if layout is Layout.UNITS else 1
    shape = (*x.shape[1:-1], x.shape[-1] * devices)

    def example_key(key, tower):
        return jax.random.fold_in(jax.random.fold_in(key, tower), index)

    def tower_mask(tower):
        return layer.mask(jax.vmap(example_key, (0, None))(keys, tower), shape)

    masks = [
        collectives.local_units(mask, x.shape[-1]) if devices > 1 else mask
        for mask in jax.vmap(tower_mask)(first + jnp.arange(len(towers)))
    ]
    return [layer.training(x, mask) for x, mask in zip(towers, masks, strict=True)]
