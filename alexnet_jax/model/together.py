"""A layer with weights in all towers of a device: one after the other, or in one operation.

Where it was one operation the maps of all towers stay side by side in one array, tower 1's first:
the list of the towers' maps has that one item until `apart` cuts it.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alexnet_jax.model import convolution, dense, few, winograd
from alexnet_jax.model.formulation import Formulation
from alexnet_jax.model.layers import AcrossMapNorm, Dropout
from alexnet_jax.model.weighted import (
    Convolution,
    Dense,
    LocallyConnected,
    Output,
    Tower,
    Weighted,
)


def weighted(
    layer: Weighted, maps: list[jax.Array], own: Tower, image: jax.Array, how: Formulation
) -> list[jax.Array]:
    """What the layer gives in each tower, from their `maps` and parameters [towers, ...].

    One array with the maps of all towers instead, if it was one convolution.
    """
    run = layer
    if isinstance(layer, Convolution):
        run = functools.partial(layer, convolve=_form(layer, how))
    by_rows = (how.dense, how.towers) == ("by_rows", "joined")
    if isinstance(layer, Dense) and by_rows and dense.is_worth_it(maps[0]):
        return _at_once(maps, own)
    if len(maps) > 1 and how.towers != "separate":
        if isinstance(layer, Convolution) and all(x is maps[0] for x in maps):
            return [_joined(run, maps[0], own, image)]
        if isinstance(layer, Convolution | Dense) and how.towers == "batched":
            return _batched(layer, maps, own, image)
    return [run(x, {kind: own[kind][tower] for kind in own}, image) for tower, x in enumerate(maps)]


def apart(maps: list[jax.Array], towers: int) -> list[jax.Array]:
    """The maps of each of the `towers` that live here, if they were side by side."""
    return maps if len(maps) == towers else jnp.split(maps[0], towers, axis=-1)


def is_alike(layer) -> bool:
    """Whether a layer does the same to maps of one tower and of all towers side by side."""
    match layer:
        case AcrossMapNorm():
            return layer.across_towers
        case Convolution() | LocallyConnected() | Dense() | Dropout() | Output():
            return False
    return True


def partial_logits(
    layer: Output, maps: list[jax.Array], kernel: jax.Array, how: Formulation
) -> jax.Array:
    """The sum of all towers' partial logits, from kernels [towers, inputs, classes]."""
    if len(maps) == 1 or how.towers == "separate":
        return sum(layer(x, kernel[tower]) for tower, x in enumerate(maps))
    flat = [x.reshape(x.shape[0], -1) for x in maps]
    return layer(jnp.concatenate(flat, axis=-1), kernel.reshape(-1, kernel.shape[-1]))


def _form(layer: Convolution, how: Formulation) -> convolution.Convolve:
    """Which of its forms computes a convolution that is not batched."""
    if layer.stride > 1 and how.strided == "space_to_depth":
        return convolution.convolve_folded
    if jax.default_backend() == "gpu" and how.strided == "by_device":
        return convolution.convolve_folding_few
    if jax.default_backend() != "cpu":
        return convolution.convolve

    def convolve(x, kernel, stride, padding, floor):
        if how.small_windows == "winograd" and winograd.is_worth_it(x, kernel, stride, padding):
            return winograd.convolve(x, kernel, padding)
        if how.few_maps == "neighbours" and few.is_worth_it(x, kernel, stride):
            return few.convolve(x, kernel, padding)
        return convolution.convolve(x, kernel, stride, padding, floor)

    return convolve


def _joined(run: Callable, x: jax.Array, own: Tower, image: jax.Array):
    """One convolution of the array that all towers see, with the filters of all, tower 1's first.

    Dense layers are not: their large kernels would have to be copied into that order.
    """

    def side_by_side(parameter):  # [towers, ..., filters] -> [..., towers * filters]
        moved = jnp.moveaxis(parameter, 0, -2)
        return moved.reshape(*moved.shape[:-2], -1)

    return run(x, jax.tree.map(side_by_side, own), image)


def _at_once(maps: list[jax.Array], own: Tower) -> list[jax.Array]:
    """What a dense layer gives in each tower, by one product for all of them."""
    rows = jnp.stack([x.reshape(x.shape[0], -1) for x in maps])
    return list(dense.product(rows, own["kernel"]) + own["bias"][:, None])


def _batched(layer: Convolution | Dense, maps: list[jax.Array], own: Tower, image: jax.Array):
    """One matrix product with the towers as its batch axis, of windows where they are convolved.

    A mapped convolution would become one with groups, which XLA for CPU computes slowly and for
    which it gathers the batch of all devices.
    """
    run = layer
    if isinstance(layer, Convolution):
        run = functools.partial(layer, convolve=convolution.convolve_patches)
    return list(jax.vmap(lambda x, own: run(x, own, image))(jnp.stack(maps), own))
