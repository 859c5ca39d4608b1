"""Our own files of weights: safetensors, with the network and its pixels in the header.

The tensors are the parameters as LAYER.KIND, float32, the tower axis first, and those of Pixels as
pixels.mean and pixels.divisor; weights/header.py says what the header holds.
"""

import pathlib

import numpy as np
import safetensors
import safetensors.numpy

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import atomic_write, header
from alexnet_jax.weights.trained import Trained

PIXELS = ("pixels.mean", "pixels.divisor")


def write_safetensors(path: pathlib.Path, trained: Trained) -> None:
    """Write `trained` to a file, which appears whole or not at all."""
    tensors = {
        f"{layer}.{kind}": np.ascontiguousarray(value, np.float32)
        for layer, kinds in trained.parameters.items()
        for kind, value in kinds.items()
    }
    for name, value in zip(PIXELS, (trained.pixels.mean, trained.pixels.divisor), strict=True):
        tensors[name] = np.asarray(value, np.float32, order="C")
    data = safetensors.numpy.save(tensors, header.build_header(trained))
    with atomic_write.atomic_path(
        path
    ) as partial:  # save_file has errors of its own for a full disk
        partial.write_bytes(data)


def is_native(path: pathlib.Path) -> bool:
    """Whether a safetensors file is one of `write`; UserError where it is none or is damaged."""
    return _contents(path, with_tensors=False)[0].get("format") == header.FORMAT


def read_safetensors(path: pathlib.Path) -> Trained:
    """What `write` wrote, with the same bits; UserError for anything else."""
    about, tensors = _contents(path)
    header.check_format(about, str(path))
    variant, classes, numbers = header.read_header(about, str(path))
    for name in PIXELS:
        if name not in tensors:
            raise UserError(f"{path} holds no {name}: convert the weights anew.")
    mean, divisor = (tensors.pop(name) for name in PIXELS)
    parameters: dict = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        parameters.setdefault(layer, {})[kind] = value
    return header.trained_from(str(path), variant, classes, parameters, numbers, mean, divisor)


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file, of whatever origin; UserError where it is damaged."""
    return _contents(path)[1]


def _contents(path: pathlib.Path, with_tensors: bool = True) -> tuple[dict, dict]:
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
