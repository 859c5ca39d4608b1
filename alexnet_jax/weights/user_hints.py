"""What a person says of a file of weights that does not tell it itself."""

import dataclasses
import pathlib

import numpy as np

from alexnet_jax.data import synsets
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, LocallyConnected, Output
from alexnet_jax.model.networks import NETWORKS, Variant
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import standard
from alexnet_jax.weights.standard import StandardWeights


@dataclasses.dataclass(frozen=True)
class UserHints:
    """The network, a file with the mean and the names of the classes; None where unsaid."""

    variant: Variant | None = None
    mean: pathlib.Path | None = None
    classes: tuple[str, ...] | None = None

    def class_names(self, count: int, name: str, ilsvrc: bool = True) -> tuple[str, ...]:
        """The names of `count` classes; UserError where others were given, `name` is the file's.

        Where none were given, 1,000 are the synsets of ILSVRC-2012 in the order of Caffe and
        PyTorch, if `ilsvrc`, and others are called by their numbers.
        """
        if self.classes is None:
            known = tuple(synsets.ilsvrc2012()) if ilsvrc else ()
            return known if len(known) == count else tuple(map(str, range(count)))
        if len(self.classes) != count:
            raise UserError(
                f"{name} knows {count:,} classes, but {len(self.classes):,} names were given with "
                "--classes: give a file with one name a line, in the order of the labels."
            )
        return self.classes

    def choose_variant(self, name: str, guesses: list[str]) -> Variant:
        """That which was named, or the one guess; UserError where there are none or several."""
        if self.variant is not None:
            return self.variant
        if len(guesses) == 1:
            return Variant(guesses[0])
        choices = f"may be any of {', '.join(guesses)}" if guesses else "is none that is known here"
        raise UserError(
            f"The network in {name} {choices}: name the one that it was made for with "
            "--network=NAME (python -m alexnet_jax model lists them)."
        )


Layers = list[tuple[str, np.ndarray, np.ndarray]]  # (name, kernel, bias), from first to last


def weighted_layers(architecture: Architecture) -> list[str]:
    """Names of the layers with weights, from the first to the last."""
    kinds = Convolution | LocallyConnected | Dense | Output
    return [layer.name for layer in architecture.layers if isinstance(layer, kinds)]


def rename_by_order(layers: Layers, variant: Variant) -> StandardWeights:
    """Layers of a file under our names, by their order; under their own where the counts differ.

    A last layer that was trained anew often has another name.
    """
    own = weighted_layers(variant.architecture())
    names = own if len(own) == len(layers) else [name for name, *_ in layers]
    return {name: (kernel, bias) for name, (_, kernel, bias) in zip(names, layers, strict=True)}


def matching_networks(layers: Layers) -> dict[str, Architecture]:
    """The networks with kernels of just these shapes in this order, by name."""
    shapes = [kernel.shape for _, kernel, _ in layers]
    classes = shapes[-1][0] if shapes else 0
    found = {}
    for name, architecture in NETWORKS.items():
        try:
            standard.check_standard(architecture)
        except UserError:
            continue
        wanted = [shape for shape, _ in standard.standard_shapes(architecture, classes).values()]
        if wanted == shapes:
            found[name] = architecture
    return found
