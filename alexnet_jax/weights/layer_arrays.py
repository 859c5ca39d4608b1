"""The layers with weights of a file of another program, and the network that they belong to."""

from collections.abc import Callable

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Output, Weighted
from alexnet_jax.model.networks import NETWORKS, Variant
from alexnet_jax.weights import standard
from alexnet_jax.weights.standard import StandardWeights
from alexnet_jax.weights.trained import Pixels, Trained
from alexnet_jax.weights.user_hints import UserHints

# A layer of a file: its name, and kernel and bias in the layout of weights/standard.py.
LayerArrays = tuple[str, np.ndarray, np.ndarray]


def trained_from_layers(
    layers: list[LayerArrays],
    variant: Variant,
    hints: UserHints,
    *,
    file: str,
    pixels: Callable[[Architecture], Pixels],
) -> Trained:
    """The network with the weights of these layers, matched by order.

    `file` names the file in messages. Raises UserError where a layer has another shape, before it
    calls `pixels`, which may ask for a mean.
    """
    architecture, num_classes = variant.architecture(), len(layers[-1][2])
    return Trained(
        name=file,
        variant=variant,
        classes=hints.class_names(num_classes, file),
        parameters=standard.from_standard(
            architecture,
            rename_by_order(layers, variant),
            num_classes=num_classes,
            file=file,
        ),
        pixels=pixels(architecture),
    )


def weighted_layers(architecture: Architecture) -> list[str]:
    """Names of the layers with weights, from the first to the last."""
    return [layer.name for layer in architecture.layers if isinstance(layer, Weighted | Output)]


def rename_by_order(layers: list[LayerArrays], variant: Variant) -> StandardWeights:
    """{layer of `variant`: (kernel, bias)}, matched by order, since names in files differ.

    Where the counts differ the names of the file are kept: standard.from_standard reports them.
    """
    expected = weighted_layers(variant.architecture())
    names = expected if len(expected) == len(layers) else [name for name, *_ in layers]
    return {name: (kernel, bias) for name, (_, kernel, bias) in zip(names, layers, strict=True)}


def matching_networks(layers: list[LayerArrays]) -> dict[str, Architecture]:
    """The networks with kernels of just these shapes in this order, by name."""
    shapes = [kernel.shape for _, kernel, _ in layers]
    num_classes = shapes[-1][0] if shapes else 0
    return {
        name: architecture
        for name, architecture in NETWORKS.items()
        if not standard.unsupported_reason(architecture)
        and shapes
        == [kernel for kernel, _ in standard.standard_shapes(architecture, num_classes).values()]
    }
