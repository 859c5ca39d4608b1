"""Reads a file of weights of whatever kind, which its content tells."""

import pathlib

from alexnet_jax.errors import UserError
from alexnet_jax.weights import safetensors
from alexnet_jax.weights.trained import Trained


def read(path: pathlib.Path) -> Trained:
    """The network with its weights; UserError where the file is missing or holds none."""
    if not path.is_file():
        raise UserError(f"There is no file {path}: expected one of weights.")
    return safetensors.read(path)
