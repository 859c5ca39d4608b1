"""The file that --json names: one JSON line a run, see runtime/run_records.py."""

import pathlib

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.run_records import read_records, write_record
from alexnet_jax.runtime.terminal import Terminal


def check_json(file: str) -> pathlib.Path:
    """The path of --json=FILE, checked before anything is measured.

    UserError if its folder does not exist, or if it holds anything but records of runs.
    """
    path = pathlib.Path(file)
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path} can't be written: there is no folder {path.parent}.")
    read_records(path)
    return path


def write_json(path: pathlib.Path, run: str, content: dict, terminal: Terminal) -> None:
    """Write the line of the run and say where it is."""
    write_record(path, run, content)
    terminal.info(f'In {path}: all numbers, in the line of run "{run}".')
