"""Random keys of the rows on a device, from (seed, step, row of the global batch) alone.

Neither the number of devices nor that of processes enters, so a run may change both.
"""

import dataclasses

import jax
import jax.numpy as jnp

from alexnet_jax.parallel.mesh import DATA_AXIS

_CROP, _FLIP, _COLOUR, _DROPOUT = range(4)


def root_key(seed: int) -> jax.Array:
    """The key of a run; threefry, since the other generators change with the batch's layout."""
    return jax.random.key(seed, impl="threefry2x32")


@dataclasses.dataclass(frozen=True)
class RowKeys:
    """Typed keys [rows] for each use, inside `jax.shard_map` over "data".

    `rows` live on this device, or are number `part` of the `parts` of so many each that do.
    `shared_by` rows in a run share crop and flip: 32 in the 2012 source (convdata_jpeg.py), 1
    otherwise.
    """

    seed: int
    step: jax.Array
    rows: int
    shared_by: int = 1
    part: jax.Array | int = 0
    parts: int = 1

    def crop(self) -> jax.Array:
        """For the place of the crop."""
        return self._keys(_CROP, self.shared_by)

    def flip(self) -> jax.Array:
        """For the mirror image."""
        return self._keys(_FLIP, self.shared_by)

    def colour(self) -> jax.Array:
        """For the colour noise."""
        return self._keys(_COLOUR, 1)

    def dropout(self, of_all_devices: bool = False) -> jax.Array:
        """For the dropout masks; the network folds in the tower and the layer."""
        return self._keys(_DROPOUT, 1, of_all_devices)

    def _keys(self, purpose: int, shared_by: int, of_all_devices: bool = False) -> jax.Array:
        devices = jnp.arange(jax.lax.axis_size(DATA_AXIS))
        if len(devices) > 1 and not of_all_devices:
            devices = jax.lax.axis_index(DATA_AXIS)[None]
        first = (devices * self.parts + self.part) * self.rows
        rows = (first[:, None] + jnp.arange(self.rows)).ravel() // shared_by
        key = jax.random.fold_in(jax.random.fold_in(root_key(self.seed), self.step), purpose)
        return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
