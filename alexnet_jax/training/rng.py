"""Random keys of the examples on a device, from (seed, step, place in the global batch) alone.

Neither the number of devices nor that of processes enters, so a run may change both.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alexnet_jax.parallel.axes import DATA_AXIS


def root_key(seed: int) -> jax.Array:
    """The key of a run; threefry, since the other generators change with the batch's layout."""
    return jax.random.key(seed, impl="threefry2x32")


class ExampleKeys(NamedTuple):
    """Typed keys [batch] for each use: the place of the crop, the mirror image, the colour noise.

    In those for `dropout` the network folds the tower and the layer. A use is known by its place
    here: in another order runs would not go on with their numbers.
    """

    crop: jax.Array
    flip: jax.Array
    colour: jax.Array
    dropout: jax.Array


def example_keys(
    seed: int,
    step: jax.Array,
    batch: int,
    *,
    group_size: int = 1,
    part: jax.Array | int = 0,
    num_parts: int = 1,
    dropout_of_all: bool = False,
) -> ExampleKeys:
    """The keys of a device's `batch` examples, or of number `part` of `num_parts` such parts.

    Called inside `jax.shard_map` over "data". `group_size` examples in a run share crop and flip:
    32 in the 2012 source (convdata_jpeg.py), 1 otherwise. With `dropout_of_all` the keys for
    dropout are those of all devices' examples, one device after the other.

    A generation of keys is one draw for all uses: on a CPU each draw is a loop of its own.
    """
    devices = jax.lax.axis_size(DATA_AXIS)

    def examples_of(device):
        return (device * num_parts + part) * batch + jnp.arange(batch)

    local = examples_of(jax.lax.axis_index(DATA_AXIS) if devices > 1 else 0)
    key = jax.random.fold_in(root_key(seed), step)
    folded = jax.vmap(jax.random.fold_in, (None, 0))
    use_keys = folded(key, jnp.arange(len(ExampleKeys._fields)))
    groups = local // group_size
    keys = ExampleKeys(*jax.vmap(folded)(use_keys, jnp.stack([groups, groups, local, local])))
    if not dropout_of_all or devices == 1:
        return keys
    everywhere = jnp.concatenate([examples_of(device) for device in range(devices)])
    return keys._replace(dropout=folded(ExampleKeys(*use_keys).dropout, everywhere))
