"""Every formulation computes the plain network, its gradients included, on one device and two."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.model import network
from alexnet_jax.model.formulation import PLAIN, Formulation
from alexnet_jax.model.networks import NETWORKS
from tests import miniature

CLASSES, ROWS, SIDE = 7, 2, 98
FORMULATIONS = {
    "space to depth": Formulation(strided="space_to_depth"),
    "banded": Formulation(norm_sums="banded"),
    "joined": Formulation(towers="joined"),
    "batched": Formulation(towers="batched"),
    "all": Formulation("space_to_depth", "banded", "batched"),
}
QUICK = ("net145", "bvlc_alexnet")
SLOW = ("caffenet", "net137", "net146", "zfnet", "one_weird_trick", "net120_2012")


def narrow(name):
    """A small network in which conv1's last windows hang over the edge where the ceiling rules."""
    return dataclasses.replace(NETWORKS[name].with_width(1 / 16), input_size=SIDE)


@functools.cache
def given(name):
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
    return random.normal(scale=50, size=(ROWS, side, side, architecture.channels)), parameters


def computed(name, formulation, model=1):
    """Logits in training, and the gradients of a weighted sum of them by parameters and images."""
    architecture = narrow(name)
    graph = network.graph_of(architecture, CLASSES)
    images, parameters = given(name)
    keys = jax.random.split(jax.random.key(3), ROWS)
    weights = np.random.default_rng(1).normal(size=(ROWS, CLASSES))

    def loss(parameters, images, keys):
        logits = network.apply(graph, parameters, images, keys, jnp.float64, formulation)
        return (weights * logits).sum(), logits

    function = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    if model > 1:
        spec, whole = network.partition_specs(architecture, True), jax.sharding.PartitionSpec()
        function = jax.shard_map(
            function, mesh=miniature.make_mesh(1, model), in_specs=(spec, whole, whole),
            out_specs=((whole, whole), (spec, whole)),
        )  # fmt: skip
    return jax.device_get(jax.jit(function)(parameters, images, keys))


plain = functools.cache(functools.partial(computed, formulation=PLAIN))


def assert_equal(ours, theirs, bound):
    pairs = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
    for (path, a), b in pairs:
        assert np.linalg.norm(b) > 0, path
        assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b), jax.tree_util.keystr(path)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_a_formulation_equals_the_plain_network(float64, name, formulation):
    assert_equal(computed(name, FORMULATIONS[formulation]), plain(name), 1e-11)
