"""The mesh ("data", "model"): rows of the batch over "data", towers over "model"."""

import collections
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.parallel import processes
from alexnet_jax.runtime.errors import UserError

DATA_AXIS, MODEL_AXIS = "data", "model"


def make_mesh(model: int, devices: list[jax.Device] | None = None) -> Mesh:
    """All devices (or those given) as [len / model, model]; all processes must call it.

    Neighbours on one host hold the towers, which exchange more in a step than rows do.
    """
    devices = jax.devices() if devices is None else devices
    several = model > 1 and jax.process_count() > 1
    grid = arrange(devices, model, processes.nodes() if several else [0] * jax.process_count())
    return Mesh(grid, (DATA_AXIS, MODEL_AXIS), axis_types=(AxisType.Auto, AxisType.Auto))


def arrange(devices: Sequence[jax.Device], model: int, nodes: Sequence[int]) -> np.ndarray:
    """Devices as [len / model, model] with each row on one host; `nodes` are those of processes.

    UserError where a host's devices can't be divided so.
    """
    on_node = collections.defaultdict(list)
    for device in sorted(devices, key=lambda device: (device.process_index, device.id)):
        on_node[nodes[device.process_index]].append(device)
    for own in on_node.values():
        if len(own) % model:
            ranks = sorted({device.process_index for device in own})
            raise UserError(
                f"The layout puts {model} towers on {model} devices of one host, but the host of "
                f"process {', '.join(map(str, ranks))} has {len(own)}: use the layout 'data'."
            )
    ordered = [device for node in sorted(on_node) for device in on_node[node]]
    return np.array(ordered, dtype=object).reshape(-1, model)


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
