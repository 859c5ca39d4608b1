"""Reading NumPy's files safely: arrays of numbers only, no larger than the file itself."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_jax.runtime.errors import UserError

RecordIds = Sequence[int] | np.ndarray  # numbers of records in a split, from 0


def load(path: str | pathlib.Path, remedy: str, mapped: bool = False) -> np.ndarray:
    """The array of an .npy file, memory-mapped if `mapped`, else read.

    Raises UserError, which ends with the `remedy`, for any other file; Python objects are never
    unpickled.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except Exception as error:  # NumPy raises any of half a dozen kinds on foreign bytes
        raise unreadable_file(path, error, remedy) from error
    if not isinstance(array, np.ndarray):
        raise unreadable_file(path, "it is an archive", remedy)
    return array


def load_archive(path: pathlib.Path, remedy: str) -> dict[str, np.ndarray]:
    """All arrays of an uncompressed .npz file; UserError as for `load`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            # A megabyte of compressed zeros is a gigabyte, and entries can share their bytes.
            if sum(entry.file_size for entry in stored.zip.infolist()) > os.path.getsize(path):
                raise ValueError("it holds more than it is long")
            return {name: np.asarray(stored[name]) for name in stored.files}
    except Exception as error:
        raise unreadable_file(path, error, remedy) from error


def unreadable_file(path: str | pathlib.Path, reason: Exception | str, remedy: str) -> UserError:
    """The UserError for a file that can't be read."""
    return UserError(f"{path} can't be read ({reason}): {remedy}.")
