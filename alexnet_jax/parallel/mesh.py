"""The mesh ("data", "model"): the examples of a batch over "data", towers over "model"."""

import collections
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.parallel import processes
from alexnet_jax.parallel.axes import DATA_AXIS, MODEL_AXIS
from alexnet_jax.runtime.errors import UserError


def make_mesh(model: int, devices: list[jax.Device] | None = None) -> Mesh:
    """All devices (or `devices`) as a mesh [len / model, model]; all processes must call it.

    The towers of a replica lie on neighbouring devices of one host: towers exchange more in a step
    than replicas do.
    """
    devices = jax.devices() if devices is None else devices
    if model > 1 and jax.process_count() > 1:
        host_of_process = processes.host_numbers().tolist()
    else:
        host_of_process = [0] * jax.process_count()
    grid = arrange_devices(devices, model, host_of_process)
    return Mesh(grid, (DATA_AXIS, MODEL_AXIS), axis_types=(AxisType.Auto, AxisType.Auto))


def arrange_devices(
    devices: Sequence[jax.Device], model: int, host_of_process: Sequence[int]
) -> np.ndarray:
    """Devices as an array [len / model, model], each replica's towers on one host.

    `host_of_process` has the host's number for each process. UserError where the devices of a host
    can't be divided into groups of `model`.
    """
    by_host = collections.defaultdict(list)
    for device in sorted(devices, key=lambda device: (device.process_index, device.id)):
        by_host[host_of_process[device.process_index]].append(device)
    for local_devices in by_host.values():
        if len(local_devices) % model:
            ranks = sorted({device.process_index for device in local_devices})
            raise UserError(
                f"The layout puts {model} towers on {model} devices of one host, but the host of "
                f"process {', '.join(map(str, ranks))} has {len(local_devices)}: use the layout "
                "'data'."
            )
    ordered = [device for host in sorted(by_host) for device in by_host[host]]
    return np.array(ordered, dtype=object).reshape(-1, model)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over "data", the same examples on the device of every tower."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def local_batch_indices(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Indices in the global batch of the examples that this process supplies, ascending."""
    indices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in indices]))


def put_batch(mesh: Mesh, batch_size: int, indices: np.ndarray, values: np.ndarray) -> jax.Array:
    """A global array [batch_size, ...] from this process's `values`, one for each of `indices`."""
    shape = (batch_size, *values.shape[1:])

    def shard(index):
        start, stop, _ = index[0].indices(batch_size)
        first = np.searchsorted(indices, start)
        return values[first : first + stop - start]

    return jax.make_array_from_callback(shape, batch_sharding(mesh), shard)


def put_replicated(mesh: Mesh, tree):
    """Host values that are equal on all processes, as global arrays on every device."""

    def put(value):
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, replicated(mesh), lambda i: value[i])

    return jax.tree.map(put, tree)
