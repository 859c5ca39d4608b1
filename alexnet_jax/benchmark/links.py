"""Links between devices, by name.

Rates are those that their makers or standards state; the shares and latencies are assumptions.
"""

import dataclasses
import difflib

from alexnet_jax.runtime.errors import UserError


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

    def reached(self, devices: int) -> float:
        """Bytes a second for each of a host's `devices`, which all send at once."""
        return self.rate * self.share / (devices if self.shared else 1)

    def describe(self) -> str:
        """The numbers and where they come from."""
        owner = "host" if self.shared else "device"
        return (
            f"{self.name}: {self.rate / 1e9:g} GB/s each way for a {owner} ({self.source}); "
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


def find_link(name: str) -> Link:
    """The link of that name; UserError with the nearest name where there is none."""
    if name in LINKS:
        return LINKS[name]
    near = difflib.get_close_matches(name, LINKS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"There is no link '{name}': {hint}There are {', '.join(LINKS)}.")
