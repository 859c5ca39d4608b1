"""Reads Python-2 pickles of numbers, texts, lists, dicts and arrays without running them.

A pickle is a program: it names functions, which Python imports and calls. Here the only names
allowed are those with which NumPy describes arrays, and they are replaced by the classes below,
which store their arguments. Objects of cuda-convnet's `options` (the flags of a run, in each of its
checkpoints) become an Ignored, without fields or methods. Any other name is refused, and nothing is
imported.
"""

import io
import math
import pickle
from typing import Any

import numpy as np

from alexnet_jax.runtime.errors import UserError

NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and from NumPy 2
OPTIONS = "options"  # options.py of cuda-convnet


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not allowed; the message says what."""


class Array:
    """An array of a pickle, in `value`."""

    value: np.ndarray = np.zeros(0)

    def __init__(self, *_):  # the class, shape and type that NumPy passes are placeholders
        pass

    def __setstate__(self, state) -> None:
        _, shape, kind, fortran, content = state
        data = content.encode("latin1") if isinstance(content, str) else content
        if not isinstance(kind, _Type) or not isinstance(data, bytes):
            raise _Refused("an array of objects")
        dtype = kind.dtype()
        if math.prod(shape) * dtype.itemsize != len(data):
            raise _Refused("an array of another length than it says")
        flat = np.frombuffer(data, dtype)
        self.value = flat.reshape(shape, order="F" if fortran else "C")


class _Type:
    """The dtype of an array, such as "f4", and its byte order."""

    def __init__(self, name="", *_):
        self._name, self._order = str(name), "="

    def __setstate__(self, state) -> None:
        self._order = state[1]

    def dtype(self) -> np.dtype:
        if self._name[:1] not in ("f", "i", "u", "b") or not self._name[1:].isdigit():
            raise _Refused("an array of something else than numbers")
        order = self._order if self._order in ("<", ">") else "="
        return np.dtype(self._name).newbyteorder(order)


class _Ndarray:
    """In place of the class numpy.ndarray, which the description of an array names."""


class Ignored:
    """An object that is not needed, without its fields."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state) -> None:
        pass


def _number(kind: _Type, data) -> float | int:
    """A NumPy scalar."""
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.dtype(), count=1)[0].item()


def _bytes(text: str, encoding: str) -> bytes:
    """The bytes that Python 3 writes as text in the old protocols."""
    return text.encode("latin1")


ALLOWED = (
    {(module, "_reconstruct"): Array for module in NUMPY}
    | {(module, "scalar"): _number for module in NUMPY}
    | {("numpy", "ndarray"): _Ndarray, ("numpy", "dtype"): _Type, ("_codecs", "encode"): _bytes}
)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if module == OPTIONS:
            return Ignored
        raise _Refused(f"{module}.{name}")


def load_pickle(data: bytes, file: str) -> Any:
    """The object in a pickle, its arrays as Array; `file` names the file in messages.

    Raises UserError where the pickle is cut short or damaged, or runs or imports anything.
    """
    try:
        return _Reader(io.BytesIO(data), encoding="latin1").load()
    except _Refused as refused:
        raise UserError(
            f"{file} is a pickle that asks Python for {refused}: only arrays, numbers, texts, "
            "lists and dicts are read, and nothing of it was run; don't open it with other "
            "programs unless you know where it comes from."
        ) from None
    except Exception as error:  # of many types: a damaged pickle is any sequence of operations
        raise UserError(
            f"{file} can't be read as a pickle ({' '.join(str(error).split())[:100]}): it is cut "
            "short or damaged; fetch it again."
        ) from error
