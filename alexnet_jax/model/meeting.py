"""Where towers meet, and where the rows of all devices meet before a split dense layer.

Everything here takes and gives the list of the activations of the towers that live on a device.
The functions on rows and units are for the layout in which convolutions are data-parallel and
dense layers are split by units over the same devices ("One weird trick", section 4).
"""

import enum

import jax
import jax.numpy as jnp

MODEL_AXIS, DATA_AXIS = "model", "data"


class Held(enum.Enum):
    """What a device holds of the batch's activations: its own rows, its own units, or all."""

    ROWS = enum.auto()
    UNITS = enum.auto()
    ALL = enum.auto()


def exchange(maps: list[jax.Array], towers: int) -> list[jax.Array]:
    """Give every tower here the maps of all towers, tower 1 first (paper section 3.2, Figure 2)."""
    if len(maps) < towers:
        joined = jax.lax.all_gather(maps[0], MODEL_AXIS, axis=maps[0].ndim - 1, tiled=True)
    else:
        joined = jnp.concatenate(maps, axis=-1)
    return [joined] * len(maps)


def share(joined: jax.Array, here: int, towers: int, first) -> list[jax.Array]:
    """The towers' own maps out of the maps of all towers."""
    own = joined.shape[-1] // towers
    return [
        jax.lax.dynamic_slice_in_dim(joined, (first + tower) * own, own, axis=joined.ndim - 1)
        for tower in range(here)
    ]


def gather(maps: list[jax.Array], held: Held) -> list[jax.Array]:
    """All rows with all units of each tower, from what every device holds."""
    if held is Held.ALL:
        return maps
    axis = 0 if held is Held.ROWS else -1
    # After an exchange all towers have one array, which has to travel only once.
    gathered = {
        id(x): jax.lax.all_gather(x, DATA_AXIS, axis=axis % x.ndim, tiled=True) for x in maps
    }
    return [gathered[id(x)] for x in maps]


def sum_to_rows(partial: jax.Array) -> jax.Array:
    """Sums over devices of their parts [all rows, ...]; each gets those of its own rows."""
    return jax.lax.psum_scatter(partial, DATA_AXIS, scatter_dimension=0, tiled=True)


def keys_of_rows(keys: jax.Array, rows: int) -> jax.Array:
    """The keys of the rows that a device holds; all of them, if it holds all rows."""
    if len(keys) == rows:
        return keys
    return jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(DATA_AXIS) * rows, rows)


def own_part(x: jax.Array, units: int) -> jax.Array:
    """This device's `units` of the last axis; x itself if that is all."""
    if x.shape[-1] == units:
        return x
    first = jax.lax.axis_index(DATA_AXIS) * units
    return jax.lax.dynamic_slice_in_dim(x, first, units, axis=x.ndim - 1)
