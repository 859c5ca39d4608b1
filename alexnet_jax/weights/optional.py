"""Libraries that only some kinds of files need."""

import importlib
import types

from alexnet_jax.errors import UserError


def library(name: str, needed_for: str) -> types.ModuleType:
    """Import a library; UserError with the command that installs it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{needed_for} needs the library {name}, which is not installed: pip install {name}."
        ) from error
