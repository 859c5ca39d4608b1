"""This project's own files of weights: safetensors, with network and pixels in the header.

The tensors are the parameters as LAYER.KIND, float32, the tower axis first, and those of Pixels as
pixels.mean and pixels.divisor; weights/header.py describes the header.
"""

import pathlib

import numpy as np
import safetensors
import safetensors.numpy

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import atomic_write, header
from alexnet_jax.weights.trained import HostParameters, Trained

PIXELS = ("pixels.mean", "pixels.divisor")


def write_safetensors(path: pathlib.Path, trained: Trained) -> None:
    """Write `trained` to a file, which appears complete or not at all; UserError if it can't."""
    tensors = {
        f"{layer}.{kind}": np.ascontiguousarray(value, np.float32)
        for layer, kinds in trained.parameters.items()
        for kind, value in kinds.items()
    }
    for name, value in zip(PIXELS, (trained.pixels.mean, trained.pixels.divisor), strict=True):
        tensors[name] = np.asarray(value, np.float32, order="C")
    data = safetensors.numpy.save(tensors, header.build_header(trained))
    # save_file has its own exceptions for a full disk.
    with atomic_write.atomic_path(path) as partial:
        partial.write_bytes(data)


def is_native(path: pathlib.Path) -> bool:
    """Whether `write_safetensors` wrote the file; UserError where it is damaged."""
    return _read_file(path, with_tensors=False)[0].get("format") == header.FORMAT


def read_safetensors(path: pathlib.Path) -> Trained:
    """What `write_safetensors` wrote, with the same bits; UserError for anything else."""
    fields, tensors = _read_file(path)
    header.check_format(fields, str(path))
    description = header.read_header(fields, str(path))
    for name in PIXELS:
        if name not in tensors:
            raise UserError(f"{path} holds no {name}: convert the weights anew.")
    mean, divisor = (tensors.pop(name) for name in PIXELS)
    parameters: HostParameters = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        parameters.setdefault(layer, {})[kind] = value
    return header.trained_from(
        str(path), description, parameters=parameters, mean=mean, divisor=divisor
    )


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file of any origin; UserError where it is damaged."""
    return _read_file(path)[1]


def _read_file(
    path: pathlib.Path, *, with_tensors: bool = True
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The header and all arrays."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys() if with_tensors else ()
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (OSError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{path} can't be read as safetensors ({error}): it is damaged or cut off; fetch or "
            "convert it anew."
        ) from error
