"""Where towers meet, and where the examples of all devices meet before a split dense layer.

A network on one device needs nothing of this. `towers` is the list of the activations of the towers
that live on a device. The functions on examples and units are for the layout in which convolutions
are data-parallel and dense layers are split by units over the same devices ("One weird trick",
section 4).
"""

import enum

import jax

from alexnet_jax.parallel.axes import DATA_AXIS, MODEL_AXIS


class Layout(enum.Enum):
    """Which part of the global batch's activations a device holds."""

    EXAMPLES = enum.auto()  # its own examples, with all units
    UNITS = enum.auto()  # all examples, with its own units
    ALL = enum.auto()  # all examples, with all units


def all_towers(towers: list[jax.Array]) -> jax.Array:
    """The channels of all towers, tower 1 first, where each device has one tower."""
    (x,) = towers
    return jax.lax.all_gather(x, MODEL_AXIS, axis=x.ndim - 1, tiled=True)


def split_towers(
    joined: jax.Array, *, local_towers: int, num_towers: int, first: jax.Array | int
) -> list[jax.Array]:
    """The channels of the towers on this device, from number `first` on, out of all towers'."""
    width = joined.shape[-1] // num_towers
    return [
        jax.lax.dynamic_slice_in_dim(joined, (first + tower) * width, width, axis=joined.ndim - 1)
        for tower in range(local_towers)
    ]


def gather(towers: list[jax.Array], layout: Layout) -> list[jax.Array]:
    """All examples with all units of each tower, from what every device holds."""
    if layout is Layout.ALL:
        return towers
    axis = 0 if layout is Layout.EXAMPLES else -1
    # After an exchange all towers have one array, which has to travel only once.
    gathered = {
        id(x): jax.lax.all_gather(x, DATA_AXIS, axis=axis % x.ndim, tiled=True) for x in towers
    }
    return [gathered[id(x)] for x in towers]


def sum_to_examples(partial: jax.Array) -> jax.Array:
    """Sums over devices of their parts [global batch, ...]; each gets those of its own examples."""
    return jax.lax.psum_scatter(partial, DATA_AXIS, scatter_dimension=0, tiled=True)


def local_keys(keys: jax.Array, batch: int) -> jax.Array:
    """The keys of the `batch` examples that a device holds, out of the keys of all examples."""
    return jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(DATA_AXIS) * batch, batch)


def local_units(x: jax.Array, units: int) -> jax.Array:
    """This device's `units` out of those of all devices in the last axis."""
    first = jax.lax.axis_index(DATA_AXIS) * units
    return jax.lax.dynamic_slice_in_dim(x, first, units, axis=x.ndim - 1)
