"""Links between devices, and what a collective operation costs over them.

Rates are those that their makers or standards state; the shares and latencies are assumptions.
"""

import dataclasses
import difflib

from alexnet_jax.benchmark.traffic import ALL_REDUCE, MODEL, Transfer
from alexnet_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Link:
    """A kind of link: bytes a second in each direction, of a device or, if `shared`, of a host.

    `share` of them is reached; each hop of a ring costs `latency` seconds.
    """

    name: str
    rate: float
    shared: bool
    share: float
    latency: float
    source: str

    def describe(self) -> str:
        """The numbers and where they come from."""
        whose = "host" if self.shared else "device"
        return (
            f"{self.name}: {self.rate / 1e9:g} GB/s each way for a {whose} ({self.source}); "
            f"assumed: {self.share:.0%} of it reached, {self.latency * 1e6:g} microseconds a hop"
        )


def _ethernet(gigabits: int, latency: float) -> Link:
    source = f"IEEE 802.3, {gigabits} Gb/s"
    return Link(f"ethernet{gigabits}", gigabits / 8 * 1e9, True, 0.8, latency, source)


LINKS = {
    link.name: link
    for link in (
        Link("nvlink4", 450e9, False, 0.8, 3e-6,
             "NVIDIA's H100 SXM data sheet: 900 GB/s in both directions together"),
        Link("pcie5", 63e9, False, 0.8, 5e-6,
             "PCI-SIG, PCI Express 5.0 x16: 32 GT/s a lane, 128b/130b"),
        Link("pcie2", 8e9, False, 0.7, 10e-6,
             "PCI-SIG, PCI Express 2.0 x16: 5 GT/s a lane, 8b/10b; what GPUs of 2012 had"),
        Link("ndr400", 50e9, False, 0.8, 5e-6,
             "NVIDIA's DGX H100 user guide: 400 Gb/s InfiniBand, one adapter a GPU"),
        _ethernet(100, 20e-6),
        _ethernet(25, 30e-6),
        _ethernet(10, 30e-6),
    )
}  # fmt: skip


def named(name: str) -> Link:
    """The link of that name; UserError with the nearest name where there is none."""
    if name in LINKS:
        return LINKS[name]
    near = difflib.get_close_matches(name, LINKS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"There is no link '{name}': {hint}There are {', '.join(LINKS)}.")


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
        devices, held = data * model, self.devices_per_node
        if devices > held and (devices % held or max(held, model) % min(held, model)):
            raise UserError(
                f"A mesh of {data} x {model} devices does not fill nodes of {held}: use a multiple."
            )

    def cost(self, transfer: Transfer, data: int, model: int) -> Cost:
        """Rings inside the nodes and, with a node's share of the array, rings between them.

        A ring of n moves (n - 1) / n of an array past each device in n - 1 hops; an all-reduce is
        two of them, a scatter and a gather (Patarasuk and Yuan, 2009; NCCL's "bus bandwidth").
        """
        held = min(self.devices_per_node, data * model)
        near = min(model, held) if transfer.axis == MODEL else max(1, held // model)
        size = model if transfer.axis == MODEL else data
        near = min(near, size)
        far = size // near
        rounds = 2 if transfer.kind == ALL_REDUCE else 1
        inside = rounds * (near - 1) / near * transfer.size
        between = rounds * (far - 1) / far * transfer.size / near
        rate = self.between.rate * self.between.share / (held if self.between.shared else 1)
        hops = rounds * ((near - 1) * self.inside.latency + (far - 1) * self.between.latency)
        seconds = inside / self._inside_rate(held) + between / rate + hops
        return Cost(inside, between, seconds)

    def _inside_rate(self, held: int) -> float:
        shared = held if self.inside.shared else 1
        return self.inside.rate * self.inside.share / shared
