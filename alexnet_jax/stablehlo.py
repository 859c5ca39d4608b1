"""A whole program in StableHLO through jax.export: from stored pixels to probabilities.

Any jax runs it without this project, on CPU, NVIDIA GPU or TPU:

    program = jax.export.deserialize(pathlib.Path("FILE.stablehlo").read_bytes())
    probabilities = program.call(images)   # uint8 [n, size, size, channels], any n
"""

import pathlib

import jax
import jax.numpy as jnp
from jax import export

from alexnet_jax import inference
from alexnet_jax.weights import writing
from alexnet_jax.weights.trained import Trained

PLATFORMS = ("cpu", "cuda", "tpu")


def write(path: pathlib.Path, trained: Trained) -> None:
    """Write the program with weights and preprocessing inside; its view is the central one."""
    predict = inference.log_probabilities(trained)
    size, channels = trained.pixels.size, trained.architecture.channels
    (rows,) = export.symbolic_shape("rows")
    images = jax.ShapeDtypeStruct((rows, size, size, channels), jnp.uint8)

    def program(images):
        return jnp.exp(predict(trained.parameters, images))

    exported = export.export(jax.jit(program), platforms=PLATFORMS)(images)
    with writing.whole(path) as partial:
        partial.write_bytes(exported.serialize())
