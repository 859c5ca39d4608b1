"""What goes on inside a network: the activations after each of its layers, by name."""

import jax
import jax.numpy as jnp
from flax import nnx

from alexnet_jax.model.architecture import Architecture, Parameters
from alexnet_jax.model.layers import (
    Activation,
    AveragePool,
    ContrastNorm,
    Dropout,
    Exchange,
    MaxPool,
    Output,
    ReLU,
    ResponseNorm,
    Sigmoid,
    SpatialNorm,
    Tanh,
    Weighted,
)

_KINDS = {
    ReLU: "relu", Tanh: "tanh", Sigmoid: "sigmoid", Dropout: "dropout", ResponseNorm: "norm",
    SpatialNorm: "spatial_norm", ContrastNorm: "contrast_norm", MaxPool: "pool",
    AveragePool: "pool",
}  # fmt: skip


def activation_places(architecture: Architecture) -> dict[str, int]:
    """Names of all activations with the index of their layer, in order.

    A layer with weights has its own name, which means what comes out of the activation function if
    that follows at once, as in Caffe; what goes into it is NAME.linear. The layers after it are
    NAME.norm, NAME.pool and so on, NAME.norm2 where there are two of a kind.
    """
    places: dict[str, int] = {}
    layers, owner = architecture.layers, ""
    for index, layer in enumerate(layers):
        if isinstance(layer, Weighted | Output):
            owner = layer.name
            followed = index + 1 < len(layers) and isinstance(layers[index + 1], Activation)
            places[f"{owner}.linear" if followed else owner] = index
        elif isinstance(layer, Activation) and isinstance(layers[index - 1], Weighted):
            places[owner] = index
        elif not isinstance(layer, Exchange):
            kind = f"{owner}.{_KINDS.get(type(layer), type(layer).__name__.lower())}"
            again = sum(name.rstrip("0123456789") == kind for name in places)
            places[f"{kind}{again + 1}" if again else kind] = index
    return places


def activations(
    graph: nnx.GraphDef, parameters: Parameters, images, any_size: bool = False
) -> dict[str, jax.Array]:
    """All activations without dropout, by the names of `activation_places`.

    [batch, height, width, channels] or [batch, units], the towers' channels one after the other.
    Inside `jit` only those that are used are computed. `any_size` as for AlexNet.__call__.
    """
    module = nnx.merge(graph, parameters)
    captured: dict[int, list[jax.Array]] = {}
    logits = module(images, capture=captured.__setitem__, any_size=any_size)
    captured[len(module.architecture.layers) - 1] = [logits]
    places = activation_places(module.architecture)
    return {name: jnp.concatenate(captured[index], axis=-1) for name, index in places.items()}
