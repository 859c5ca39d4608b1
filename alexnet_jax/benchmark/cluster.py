"""What a collective operation costs on nodes of several devices."""

import dataclasses

from alexnet_jax.benchmark.links import Link
from alexnet_jax.benchmark.traffic import ALL_REDUCE, Transfer
from alexnet_jax.parallel.axes import MODEL_AXIS
from alexnet_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a device sends within its node and out of it, in bytes, and how long that takes."""

    inside: float
    between: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Nodes of `devices_per_node` devices; neighbours on a mesh share a node."""

    devices_per_node: int
    inside: Link
    between: Link

    def check(self, data: int, model: int) -> None:
        """UserError if the mesh does not fill whole nodes, or pairs do not fit in one."""
        devices, per_node = data * model, self.devices_per_node
        if devices > per_node and (
            devices % per_node or max(per_node, model) % min(per_node, model)
        ):
            raise UserError(
                f"A mesh of {data} x {model} devices does not fill nodes of {per_node}: use a "
                "multiple."
            )

    def cost(self, transfer: Transfer, data: int, model: int) -> Cost:
        """Rings inside the nodes and, with a node's share of the array, rings between them.

        A ring of n moves (n - 1) / n of an array past each device in n - 1 hops; an all-reduce is
        two of them, a scatter and a gather (Patarasuk and Yuan, 2009; NCCL's "bus bandwidth").
        """
        per_node = min(self.devices_per_node, data * model)
        size = model if transfer.axis == MODEL_AXIS else data
        near = min(size, per_node if transfer.axis == MODEL_AXIS else max(1, per_node // model))
        far = size // near
        rounds = 2 if transfer.kind == ALL_REDUCE else 1
        inside = rounds * (near - 1) / near * transfer.size
        between = rounds * (far - 1) / far * transfer.size / near
        seconds = inside / self.inside.reached(per_node) + between / self.between.reached(per_node)
        hops = (near - 1) * self.inside.latency + (far - 1) * self.between.latency
        return Cost(inside, between, seconds + rounds * hops)
