"""Classes and units as people name them."""

import difflib
from collections.abc import Sequence

from alexnet_jax.data import synsets
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.trained import Trained


def find_label(trained: Trained, name: str) -> int:
    """The label of a class by its name or words; UserError with the nearest where none is so."""
    label = synsets.find_class(trained.classes, name)
    if label is None:
        names = {*trained.classes, *map(synsets.words, trained.classes)}
        near = difflib.get_close_matches(name, sorted(names), n=1)
        hint = f"did you mean '{near[0]}'" if near else f"one is '{trained.classes[0]}'"
        raise UserError(
            f"{trained.name} knows no class '{name}' among its {len(trained.classes):,}: {hint}?"
        )
    return label


def parse_numbers(flag: str, words: Sequence[str]) -> list[int]:
    """Numbers of a flag such as --unit=1,2; UserError where one is none."""
    for word in words:
        if not word.isdigit():
            raise UserError(f"--{flag}={word} is no number from 0 on, such as --{flag}=0,7.")
    return [int(word) for word in words]
