"""Python files of the user's own, which are run only where the command line names them."""

import importlib.util
import pathlib
import sys
import traceback
import types
from collections.abc import Iterable

from alexnet_jax.runtime import xla_flags
from alexnet_jax.runtime.errors import UserError


def load(file: str) -> types.ModuleType:
    """Run a Python file as a module, once; UserError where it is missing or does not end."""
    path = pathlib.Path(file)
    if not path.is_file():
        raise UserError(f"There is no Python file {file}: expected one that registers something.")
    name = f"user_code.{path.resolve()}"
    if name in sys.modules:
        return sys.modules[name]
    xla_flags.configure_xla()  # before the file imports jax
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{file} can't be run: its name has to end in .py.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception) and not isinstance(error, UserError):
            lines = [place.lineno for place in traceback.extract_tb(error.__traceback__)
                     if place.filename == str(path)]  # fmt: skip
            line = getattr(error, "lineno", None) or (lines or [0])[-1]
            raise UserError(
                f"{file} stopped at line {line} with {type(error).__name__}: {error}"
            ) from error
        raise
    return module


def load_all(files: Iterable[str]) -> None:
    """Run Python files, one after another; UserError as for `load`."""
    for file in files:
        load(file)
