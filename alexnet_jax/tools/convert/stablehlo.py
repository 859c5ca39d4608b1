"""Writes a program in StableHLO with jax.export: from stored pixels to probabilities.

jax runs it without this project, on CPU, NVIDIA GPU or TPU:

    program = jax.export.deserialize(pathlib.Path("FILE.stablehlo").read_bytes())
    probabilities = program.call(images)   # uint8 [batch, size, size, channels], any batch size

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
    """Write the program with weights and preprocessing, and FILE.json; returns both paths.

    Any network can be written; the program crops images at their center. FILE.json has network,
    classes and pixels. Raises UserError where a file can't be written.
    """
    graph = alexnet.graph_of(trained.architecture, len(trained.classes))
    size, channels = trained.pixels.size, trained.architecture.channels
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, channels), jnp.uint8)

    def probabilities(images):
        inputs = inference.center_inputs(trained, images)
        return jax.nn.softmax(alexnet.apply(graph, trained.parameters, inputs))

    program = export.export(jax.jit(probabilities), platforms=PLATFORMS)(images)
    with header.write_with_description(path, trained) as partial:
        partial.write_bytes(program.serialize())
    return [path, header.description_path(path)]
