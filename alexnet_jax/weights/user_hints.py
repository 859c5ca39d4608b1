"""What the user says about a file of weights that does not hold it: network, mean and classes."""

import dataclasses
import pathlib

from alexnet_jax.data import synsets
from alexnet_jax.model.networks import Variant
from alexnet_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class UserHints:
    """The network, a file with the mean and the names of the classes; None where not given."""

    variant: Variant | None = None
    mean: pathlib.Path | None = None
    classes: tuple[str, ...] | None = None

    def class_names(self, num_classes: int, file: str, *, ilsvrc: bool = True) -> tuple[str, ...]:
        """The names of the classes; `file` names the file of weights in messages.

        Without a hint 1,000 classes have the synsets of ILSVRC-2012 in the order of Caffe and
        PyTorch, if `ilsvrc`, and others have their numbers. Raises UserError for a hint of another
        length.
        """
        if self.classes is None:
            known = tuple(synsets.ilsvrc2012()) if ilsvrc else ()
            return known if len(known) == num_classes else tuple(map(str, range(num_classes)))
        if len(self.classes) != num_classes:
            raise UserError(
                f"{file} knows {num_classes:,} classes, but {len(self.classes):,} names were given "
                "with --classes: give a file with one name a line, in the order of the labels."
            )
        return self.classes

    def choose_variant(self, file: str, candidates: list[str]) -> Variant:
        """The network that the user named, or the only candidate.

        Raises UserError where there is no hint and none or several candidates.
        """
        if self.variant is not None:
            return self.variant
        if len(candidates) == 1:
            return Variant(candidates[0])
        choices = (
            f"may be any of {', '.join(candidates)}" if candidates else "is none that is known here"
        )
        raise UserError(
            f"The network in {file} {choices}: name the one that it was made for with "
            "--network=NAME (python -m alexnet_jax model lists them)."
        )
