"""What the folder of a run holds beside its parameters: its config, its data's statistics."""

import pathlib

from ml_collections import ConfigDict

from alexnet_jax.data import statistics
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import defaults


def config_of(facts: dict) -> ConfigDict:
    """The config that a checkpoint was trained with; fields it did not know have their defaults."""
    return ConfigDict(_filled(defaults.get_config().to_dict(), facts["config"]))


def statistics_of(workdir: pathlib.Path, size: int, channels: int) -> statistics.Statistics:
    """Those of the training set of a run; UserError where they are missing or of other images."""
    path = workdir / "statistics.npz"
    if not path.is_file():
        raise UserError(
            f"{path} is missing, which holds the mean image of the training set: the command that "
            "trained the run measures it anew."
        )
    return statistics.Statistics.load_for(path, size, channels)


def _filled(standard: dict, given: dict) -> dict:
    """`given` with the missing fields of `standard`, in nested dicts too."""
    deeper = {
        name: _filled(standard[name], value)
        for name, value in given.items()
        if isinstance(value, dict) and isinstance(standard.get(name), dict)
    }
    return standard | given | deeper
