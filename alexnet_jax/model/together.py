"""A layer with weights in all towers of a device: one after the other, or as one product."""

import functools

import jax
import jax.numpy as jnp

from alexnet_jax.model import convolution
from alexnet_jax.model.formulation import Formulation
from alexnet_jax.model.weighted import Convolution, LocallyConnected, Output, Tower, Weighted

STRIDED = {"windows": convolution.convolve, "space_to_depth": convolution.convolve_folded}


def weighted(
    layer: Weighted, maps: list[jax.Array], own: Tower, image: jax.Array, how: Formulation
) -> list[jax.Array]:
    """What the layer gives in each tower, from `maps` and parameters [towers, ...] of all here."""
    towers, run = len(maps), layer
    if isinstance(layer, Convolution):
        run = functools.partial(layer, convolve=STRIDED[how.strided])
    if towers > 1 and how.towers != "separate" and all(x is maps[0] for x in maps):
        # Filters and units are the last axis of all parameters, and so of what comes out.
        joined = {kind: _side_by_side(own[kind]) for kind in own}
        return jnp.split(run(maps[0], joined, image), towers, axis=-1)
    if towers > 1 and how.towers == "batched" and not isinstance(layer, LocallyConnected):
        if isinstance(layer, Convolution):
            run = functools.partial(layer, convolve=convolution.convolve_patches)
        return list(jax.vmap(lambda x, own: run(x, own, image))(jnp.stack(maps), own))
    return [run(x, {kind: own[kind][tower] for kind in own}, image) for tower, x in enumerate(maps)]


def partial_logits(
    layer: Output, maps: list[jax.Array], kernel: jax.Array, how: Formulation
) -> jax.Array:
    """The sum of all towers' partial logits, from kernels [towers, inputs, classes]."""
    if len(maps) == 1 or how.towers == "separate":
        return sum(layer(x, kernel[tower]) for tower, x in enumerate(maps))
    flat = [x.reshape(x.shape[0], -1) for x in maps]
    return layer(jnp.concatenate(flat, axis=-1), kernel.reshape(-1, kernel.shape[-1]))


def _side_by_side(parameter: jax.Array) -> jax.Array:
    """[towers, ..., filters] -> [..., towers * filters], tower 1 first."""
    moved = jnp.moveaxis(parameter, 0, -2)
    return moved.reshape(*moved.shape[:-2], -1)
