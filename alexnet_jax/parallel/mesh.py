"""The mesh ("data", "model"): rows of the batch over "data", towers over "model"."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.errors import UserError

DATA_AXIS, MODEL_AXIS = "data", "model"


def make_mesh(model: int, devices: list[jax.Device] | None = None) -> Mesh:
    """All devices (or those given) as [len / model, model]; neighbours hold the two towers."""
    devices = jax.devices() if devices is None else devices
    if len(devices) % model:
        raise UserError(
            f"parallel.model={model} does not divide the {len(devices)} devices: "
            "use 1, or a number of devices that it divides."
        )
    grid = np.asarray(devices).reshape(-1, model)
    return Mesh(grid, (DATA_AXIS, MODEL_AXIS), axis_types=(AxisType.Auto, AxisType.Auto))


def rows_sharding(mesh: Mesh) -> NamedSharding:
    """First axis over "data", the same rows on every tower's device."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def process_rows(mesh: Mesh, batch: int) -> np.ndarray:
    """Rows of a batch that this process has to supply, ascending."""
    indices = rows_sharding(mesh).addressable_devices_indices_map((batch,)).values()
    return np.unique(np.concatenate([np.arange(batch)[index] for index in indices]))


def put_rows(mesh: Mesh, batch: int, rows: np.ndarray, values: np.ndarray) -> jax.Array:
    """A global array [batch, ...] from this process's `values`, one for each of `rows`."""
    shape = (batch, *values.shape[1:])

    def shard(index):
        start, stop, _ = index[0].indices(batch)
        first = np.searchsorted(rows, start)
        return values[first : first + stop - start]

    return jax.make_array_from_callback(shape, rows_sharding(mesh), shard)


def put_replicated(mesh: Mesh, tree):
    """Host values that are equal on all processes, as global arrays on every device."""

    def put(value):
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, replicated(mesh), lambda i: value[i])

    return jax.tree.map(put, tree)
