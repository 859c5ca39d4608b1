"""The networks, as lists of layers to be compared by eye. Counts are over all towers."""

import dataclasses
import difflib

from alexnet_jax.model import network_json
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Activation, ReLU, Sigmoid, Tanh
from alexnet_jax.model.networks import ablations, net2012, published, small, towers
from alexnet_jax.runtime.errors import UserError, check_choice

NETWORKS = {
    architecture.name: architecture
    for module in (net2012, ablations, published, small, towers)
    for architecture in module.NETWORKS
}

ACTIVATIONS: dict[str, Activation] = {"relu": ReLU(), "tanh": Tanh(), "sigmoid": Sigmoid()}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network by its name, with what is changed of it; the fields of config.model.

    `layers` is a network of the user's own as JSON (network_json.py), `network` then its name.

    `towers` may be 1 for a dense network, `width` is a factor on filters and units, `activation`
    stands in place of each ReLU, `dropout_scales` is "test" or "training" (layers.Dropout).
    """

    network: str
    towers: int | None = None
    width: float = 1.0
    activation: str | None = None
    dropout: bool = True
    dropout_scales: str | None = None
    layers: str | None = None

    def architecture(self) -> Architecture:
        """The list of layers; UserError for what does not exist."""
        own = self.layers
        architecture = named(self.network) if own is None else network_json.from_json(own)
        if self.towers is not None:
            if self.towers not in (1, architecture.towers):
                raise UserError(
                    f"model.towers={self.towers}, but {self.network} is made for "
                    f"{architecture.towers}: leave it unset, or set 1 for a dense network."
                )
            architecture = architecture.with_towers(self.towers)
        if self.width <= 0:
            raise UserError(f"model.width={self.width} must be above 0; 1 is as published.")
        if self.width != 1:
            architecture = architecture.with_width(self.width)
        if self.activation is not None:
            check_choice("model.activation", self.activation, tuple(ACTIVATIONS))
            architecture = architecture.with_activation(ACTIVATIONS[self.activation])
        if self.dropout_scales is not None:
            check_choice("model.dropout_scales", self.dropout_scales, ("test", "training"))
            architecture = architecture.with_dropout_scaled(self.dropout_scales == "training")
        return architecture if self.dropout else architecture.without_dropout()


def named(name: str) -> Architecture:
    """The network of that name; UserError with the nearest name where there is none."""
    if name in NETWORKS:
        return NETWORKS[name]
    near = [known for known in NETWORKS if name in known]
    near = near or difflib.get_close_matches(name, NETWORKS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"There is no network '{name}': {hint}The paper's is net145; python -m alexnet_jax model "
        "lists them all."
    )
