"""A whole program in StableHLO through jax.export: from stored pixels to probabilities.

Any jax runs it without this project, on CPU, NVIDIA GPU or TPU:

    program = jax.export.deserialize(pathlib.Path("FILE.stablehlo").read_bytes())
    probabilities = program.call(images)   # uint8 [rows, size, size, channels], any rows

The weights are constants in it: 244 MB for net 145, as much as its weights alone.
"""

import pathlib

import jax
import jax.numpy as jnp
from jax import export

from alexnet_jax.model import alexnet
from alexnet_jax.tools import inference
from alexnet_jax.weights import header
from alexnet_jax.weights.trained import Trained

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(path: pathlib.Path, trained: Trained) -> list[pathlib.Path]:
    """Write the program, weights and preprocessing inside, and FILE.json; both paths.

    Any network can be written. Its view is the central one. FILE.json has network, classes and
    pixels.
    """
    graph = alexnet.graph_of(trained.architecture, len(trained.classes))
    size, channels = trained.pixels.size, trained.architecture.channels
    (rows,) = export.symbolic_shape("rows")
    images = jax.ShapeDtypeStruct((rows, size, size, channels), jnp.uint8)

    def probabilities(images):
        inputs = inference.central_inputs(trained, images)
        return jax.nn.softmax(alexnet.apply(graph, trained.parameters, inputs))

    program = export.export(jax.jit(probabilities), platforms=PLATFORMS)(images)
    with header.write_with_description(path, trained) as partial:
        partial.write_bytes(program.serialize())
    return [path, header.description_path(path)]
