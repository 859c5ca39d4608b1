"""Properties of all parameters or gradients, of which each device may hold a part only.

Called inside `jax.shard_map`; `specs` are those of architecture.partition_specs, and all devices
get the same answer.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from alexnet_jax.model.architecture import Parameters


def norm_and_finite(
    tree: Parameters, specs: Mapping, measured: jax.Array, has_nonfinite: Callable
) -> tuple[jax.Array, jax.Array]:
    """Length of all as one vector, 0 unless `measured`, and whether all are finite.

    The length costs a pass of its own. What the devices tell each other is one sum: two that do not
    wait for each other crashed XLA's CPU runtime now and then (jaxlib 0.10.2).
    """
    bad = _by_axes(lambda part: has_nonfinite(part).astype(part.dtype), tree, specs)
    squares = jax.lax.cond(
        measured,
        lambda: _by_axes(lambda part: jnp.square(part).sum(), tree, specs),
        lambda: jax.tree.map(jnp.zeros_like, bad),
    )
    total = _total({axes: jnp.stack([squares[axes], bad[axes]]) for axes in squares})
    return jnp.sqrt(total[0]), total[1] == 0


def clipped(tree: Parameters, norm: jax.Array, longest: float | None) -> Parameters:
    """Gradients of length `norm`, shortened to `longest` if they are longer; None: as they are."""
    if longest is None:
        return tree
    factor = longest / jnp.maximum(norm, longest)
    return jax.tree.map(lambda part: part * factor.astype(part.dtype), tree)


def all_finite(tree: Parameters, specs: Mapping, has_nonfinite: Callable) -> jax.Array:
    """Whether all are numbers, neither NaN nor infinite."""
    return _total(_by_axes(lambda part: has_nonfinite(part).astype(jnp.int32), tree, specs)) == 0


def _by_axes(measure: Callable, tree: Parameters, specs: Mapping) -> dict[tuple, jax.Array]:
    """Sums of `measure` over the parts that are here, by the mesh axes that they are split over."""
    total: dict[tuple, jax.Array] = {}
    for layer, kinds in tree.items():
        for kind, part in kinds.items():
            axes = tuple(axis for axis in specs[layer][kind] if axis is not None)
            measured = measure(part)
            total[axes] = total[axes] + measured if axes in total else measured
    return total


def _total(by_axes: Mapping[tuple, jax.Array]) -> jax.Array:
    """The sum over all devices' parts."""
    sums = [jax.lax.psum(part, axes) if axes else part for axes, part in by_axes.items()]
    return sum(sums[1:], sums[0])
