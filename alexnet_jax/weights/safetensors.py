"""Our own files of weights: safetensors, with the network and its pixels in the header.

The tensors are the parameters as LAYER.KIND, the tower axis first, and those of Pixels as
pixels.mean and pixels.divisor. The header's fields `network`, `classes` and `pixels` are JSON.
"""

import dataclasses
import json
import os
import pathlib

import numpy as np
import safetensors
import safetensors.numpy

from alexnet_jax.errors import UserError
from alexnet_jax.model.networks import Variant
from alexnet_jax.weights.trained import Pixels, Trained

FORMAT = "alexnet_jax 1"


def write(path: pathlib.Path, trained: Trained) -> None:
    """Write `trained` to a file, which appears whole or not at all."""
    pixels = trained.pixels
    tensors = {
        f"{layer}.{kind}": np.ascontiguousarray(value)
        for layer, kinds in trained.parameters.items()
        for kind, value in kinds.items()
    }
    tensors |= {"pixels.mean": np.asarray(pixels.mean, np.float32, order="C"),
                "pixels.divisor": np.asarray(pixels.divisor, np.float32, order="C")}  # fmt: skip
    numbers = {"size": pixels.size, "mean_at_crop": pixels.mean_at_crop, "warp": pixels.warp}
    header = {
        "format": FORMAT,
        "network": json.dumps(dataclasses.asdict(trained.variant)),
        "classes": json.dumps(trained.classes),
        "pixels": json.dumps(numbers),
    }
    partial = path.with_name(path.name + ".partial")
    try:
        safetensors.numpy.save_file(tensors, partial, header)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(
            f"{path} can't be written ({error.strerror}): name another file."
        ) from error


def read(path: pathlib.Path) -> Trained:
    """What `write` wrote; UserError for anything else."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} can't be read as safetensors ({error}).") from error
    if header.get("format") != FORMAT:
        raise UserError(f"{path} is not a file of weights of this program.")
    mean, divisor = tensors.pop("pixels.mean"), tensors.pop("pixels.divisor")
    parameters: dict = {}
    for name, value in tensors.items():
        layer, kind = name.split(".")
        parameters.setdefault(layer, {})[kind] = value
    return Trained(
        name=str(path),
        variant=Variant(**json.loads(header["network"])),
        classes=tuple(json.loads(header["classes"])),
        parameters=parameters,
        pixels=Pixels(mean=mean, divisor=divisor, **json.loads(header["pixels"])),
    )
