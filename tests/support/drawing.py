"""Random weights as other programs lay them out, and what a network with them says."""

import jax
import numpy as np

from alexnet_jax.model import alexnet
from alexnet_jax.weights import standard

CLASSES = 10


def weights(architecture, classes=CLASSES, seed=0):
    """{layer: (kernel, bias)}, kernels OIHW or [units, inputs], wide enough to matter."""
    random = np.random.default_rng(seed)
    return {
        layer: (
            np.float32(random.normal(scale=(2 / np.prod(kernel[1:])) ** 0.5, size=kernel)),
            np.float32(random.normal(scale=0.3, size=bias)),
        )
        for layer, (kernel, bias) in standard.standard_shapes(architecture, classes).items()
    }


def image(architecture, seed=1):
    """An input as the network sees it, [1, side, side, channels]."""
    side, channels = architecture.input_size, architecture.channels
    random = np.random.default_rng(seed)
    return np.float32(random.normal(scale=60, size=(1, side, side, channels)))


def logits_of(trained, inputs):
    """Of a Trained on inputs, by the plain network."""
    graph = alexnet.graph_of(trained.architecture, len(trained.classes))
    apply = jax.jit(lambda parameters, x: alexnet.apply(graph, parameters, x))
    return np.asarray(apply(trained.parameters, inputs))


def assert_close(ours, theirs, bound=1e-4):
    """Within `bound` of how much the logits differ among each other."""
    theirs = np.asarray(theirs)
    assert theirs.std() > 1e-2, "these logits say nothing"
    np.testing.assert_allclose(ours, theirs, atol=bound * theirs.std(), rtol=0)
