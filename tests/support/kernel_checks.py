"""What tests of kernels share: networks under a choice of kernels, and loops to compare with."""

import dataclasses
import functools

import jax
import numpy as np

from alexnet_jax.model import alexnet
from alexnet_jax.model.architecture import partition_specs
from alexnet_jax.model.networks import NETWORKS
from tests.support import miniature, reference

CLASSES, BATCH, SIDE = 7, 2, 98
SEPARATE = "tuned,-joined_towers,-tower_dense"


def narrow(name):
    """Few pixels, so many that conv1's last windows hang over the edge where the ceiling rules."""
    return dataclasses.replace(NETWORKS[name].with_width(1 / 16), input_size=SIDE)


@functools.cache
def inputs_of(name):
    """Images and parameters large enough for norms, ReLUs and towers to matter, in float64."""
    random = np.random.default_rng(0)
    architecture = narrow(name)

    def draw(shape, kind):
        inputs = 10 if kind == "bias" else np.prod(shape[1:-1])
        return random.normal(scale=(2 / inputs) ** 0.5, size=shape)

    parameters = {
        layer: {kind: draw(shape, kind) for kind, shape in kinds.items()}
        for layer, kinds in architecture.parameter_shapes(CLASSES).items()
    }
    side = architecture.input_size
    return random.normal(scale=50, size=(BATCH, side, side, architecture.channels)), parameters


def computed(name, choice, model=1):
    """Logits in training, and the gradients of a weighted sum of them by parameters and images."""
    architecture = narrow(name)
    graph = miniature.graph_of(architecture, CLASSES, "float64", choice)
    images, parameters = inputs_of(name)
    keys = jax.random.split(jax.random.key(3), BATCH)
    weights = np.random.default_rng(1).normal(size=(BATCH, CLASSES))

    def loss(parameters, images, keys):
        logits = alexnet.apply(graph, parameters, images, keys)
        return (weights * logits).sum(), logits

    function = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    if model > 1:
        spec, whole = partition_specs(architecture, split_towers=True), jax.sharding.PartitionSpec()
        function = jax.shard_map(
            function, mesh=miniature.make_mesh(1, model), in_specs=(spec, whole, whole),
            out_specs=((whole, whole), (spec, whole)),
        )  # fmt: skip
    return jax.device_get(jax.jit(function)(parameters, images, keys))


tuned = functools.cache(functools.partial(computed, choice="tuned"))


def assert_equal(ours, theirs, bound):
    """Leaf by leaf, relative to the length of each."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
    for (path, a), b in pairs:
        assert np.linalg.norm(b) > 0, path
        assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b), jax.tree_util.keystr(path)


def assert_equals_loops(convolve, x_shape, kernel_shape, padding):
    """Values, and gradients: those of a linear function are its weighted results of unit inputs."""
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=x_shape), random.normal(size=kernel_shape)

    def loops(x, kernel):
        return reference.convolve(x, kernel, np.zeros(kernel_shape[-1]), 1, padding)

    expected = loops(x, kernel)
    weights = random.normal(size=expected.shape)

    @jax.jit
    def results(x, kernel, weights):
        y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, padding), x, kernel)
        return y, *pull(weights)

    y, by_x, by_kernel = jax.device_get(results(x, kernel, weights))
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for place in random.integers(0, x.size, 10):
        one = np.eye(1, x.size, place).reshape(x_shape)
        expected = (weights * loops(one, kernel)).sum()
        np.testing.assert_allclose(by_x.flat[place], expected, rtol=1e-11, atol=1e-11)
    for place in random.integers(0, kernel.size, 10):
        one = np.eye(1, kernel.size, place).reshape(kernel_shape)
        expected = (weights * loops(x, one)).sum()
        np.testing.assert_allclose(by_kernel.flat[place], expected, rtol=1e-11, atol=1e-11)
