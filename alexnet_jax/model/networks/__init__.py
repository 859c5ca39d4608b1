"""The networks, as lists of layers to be compared by eye. Counts are over all towers."""

import difflib

from alexnet_jax.errors import UserError
from alexnet_jax.model.network import Architecture
from alexnet_jax.model.networks import ablations, net2012, published, small

NETWORKS = {
    architecture.name: architecture
    for room in (net2012, ablations, published, small)
    for architecture in room.NETWORKS
}


def named(name: str) -> Architecture:
    """The network of that name; UserError with the nearest name where there is none."""
    if name in NETWORKS:
        return NETWORKS[name]
    near = [known for known in NETWORKS if name in known]
    near = near or difflib.get_close_matches(name, NETWORKS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"There is no network '{name}': {hint}The paper's is net145; python -m alexnet_jax.model "
        "lists them all."
    )
