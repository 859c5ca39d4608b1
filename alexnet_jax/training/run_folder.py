"""The folder of a run: its config, its training set's statistics, and whether it can be written."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

from ml_collections import ConfigDict

from alexnet_jax.data.statistics import Statistics
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import defaults
from alexnet_jax.training.field_names import check_fields

STATISTICS = "statistics.npz"


@contextlib.contextmanager
def ensure_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Make the folder of a run if need be; if nothing comes to lie in it, take it away again.

    UserError if it can't be written, or if its path would be taken for a pattern.
    """
    path = str(workdir.absolute())
    if "[" in path or "**" in path:
        # Orbax would look for what it has written by path + "/*", find nothing and save nothing.
        raise UserError(
            f"The folder {path} has [ or ** in its path, where Orbax can't save checkpoints: "
            "choose another --workdir."
        )
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise UserError(
            f"The folder {workdir} can't be written ({error.strerror}): choose another --workdir."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty: the run has begun
            for folder in made:
                folder.rmdir()


def config_of(facts: dict) -> ConfigDict:
    """The config that a checkpoint was trained with; fields it did not know have their defaults.

    UserError for a field that is not known now.
    """
    standard = defaults.get_config().to_dict()
    check_fields(facts["config"], standard, "The checkpoint's config")
    return ConfigDict(_filled(standard, facts["config"]))


def statistics_of(workdir: pathlib.Path, size: int, channels: int) -> Statistics:
    """Those of the training set of a run; UserError where they are missing or of other images."""
    path = workdir / STATISTICS
    if not path.is_file():
        raise UserError(
            f"{path} is missing, which holds the mean image of the training set: the command that "
            "trained the run measures it anew."
        )
    return Statistics.load_for(path, size, channels)


def _filled(standard: dict, config: dict) -> dict:
    """`config` with the missing fields of `standard`, in nested dicts too."""
    deeper = {
        name: _filled(standard[name], value)
        for name, value in config.items()
        if isinstance(value, dict) and isinstance(standard.get(name), dict)
    }
    return standard | config | deeper
