"""The networks of the lists: their numbers, their function, their towers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.model import alexnet, intermediates, networks, summary
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Dense, Dropout, Output, ReLU
from tests.support import miniature, reference

NET145, QUICKSTART = networks.NETWORKS["net145"], networks.NETWORKS["quickstart"]

# Parameters of net 145 derived from layers-145.cfg, both towers together.
NET145_PARAMETERS = {
    "conv1": 34_944,
    "conv2": 307_456,
    "conv3": 885_120,
    "conv4": 663_936,
    "conv5": 442_624,
    "fc6": 37_752_832,
    "fc7": 16_781_312,
    "fc8": 4_097_000,
}


def shapes_of(architecture, classes):
    return jax.eval_shape(lambda: alexnet.draw_parameters(architecture, classes, jax.random.key(0)))


def draw(architecture, classes, seed, dtype="float32"):
    """Parameters, drawn in one compiled program."""
    key = jax.random.key(seed)
    return jax.jit(lambda: alexnet.draw_parameters(architecture, classes, key, dtype))()


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_net145_has_the_parameters_of_2012():
    parameters = shapes_of(NET145, 1000)
    assert {name: count(layer) for name, layer in parameters.items()} == NET145_PARAMETERS
    assert count(parameters) == 60_965_224


def test_summary_agrees_with_the_parameters():
    rows = {row.name: row for row in summary.summarize(NET145, 1000) if row.name}
    assert {name: row.parameters for name, row in rows.items()} == NET145_PARAMETERS
    outputs = {name: row.output for name, row in rows.items()}
    assert outputs["conv1"] == (55, 55, 48)
    assert outputs["conv2"] == (27, 27, 128)
    assert outputs["conv3"] == outputs["conv4"] == (13, 13, 192)
    assert outputs["conv5"] == (13, 13, 128)
    assert outputs["fc6"] == outputs["fc7"] == (2048,)
    assert "60,965,224" in summary.table(NET145, 1000)


def test_one_tower_is_dense_at_equal_width():
    parameters = shapes_of(NET145.with_towers(1), 1000)
    assert parameters["conv2"]["kernel"].shape == (1, 5, 5, 96, 256)
    assert parameters["conv4"]["kernel"].shape == (1, 3, 3, 384, 384)
    assert parameters["fc7"]["kernel"].shape == (1, 4096, 4096)
    # conv2, conv4 and conv5 see twice the maps: their kernels double, nothing else changes.
    assert count(parameters) == 60_965_224 + 307_200 + 663_552 + 442_368


@pytest.mark.parametrize(("name", "side"), [("lenet5", 32), ("lenet5_relu_28", 28)])
def test_lenet5_has_its_well_known_size(name, side):
    architecture = networks.NETWORKS[name]
    assert (architecture.input_size, architecture.channels) == (side, 1)
    assert count(shapes_of(architecture, 10)) == 61_706


def test_initial_values_are_those_of_2012():
    parameters = draw(NET145.with_width(1 / 4), 100, 3)
    deviations = dict.fromkeys(NET145_PARAMETERS, 0.01) | dict.fromkeys(
        ("conv3", "conv4", "conv5"), 0.03
    )
    ones = ("conv2", "conv4", "conv5", "fc6", "fc7")
    for name, layer in parameters.items():
        kernel = np.asarray(layer["kernel"], np.float64)
        assert kernel.std() == pytest.approx(deviations[name], rel=0.05), name
        assert abs(kernel.mean()) < 4 * deviations[name] / np.sqrt(kernel.size), name
        np.testing.assert_array_equal(layer["bias"], 1.0 if name in ones else 0.0, err_msg=name)
        assert abs(kernel).max() > 3 * deviations[name], "truncated?"
        assert not np.array_equal(kernel[0], kernel[-1]), "towers start equal"


def test_net145_equals_numpy_loops(float64):
    """In plain operations and in the tuned ones, layer by layer."""
    architecture = NET145.with_width(1 / 12)
    # Larger weights than the initial ones, so that norms, ReLUs and towers all matter.
    parameters = jax.tree.map(lambda p: 4 * p, draw(architecture, 7, 0, "float64"))
    images = np.random.default_rng(0).normal(scale=70, size=(2, 224, 224, 3))
    expected = reference.net145(jax.tree.map(np.asarray, parameters), images, keep=0.5)
    assert expected["fc8"].std() > 1e-3
    for choice in ("reference", "tuned"):
        graph, names = miniature.graph_of(architecture, 7, "float64", choice), []

        def layer_by_layer(parameters, images, graph=graph, names=names):
            by_name = intermediates.activations(graph, parameters, images)
            names.extend(by_name)  # in their order, while a dictionary would be sorted
            return list(by_name.values())

        ours = jax.jit(layer_by_layer)(parameters, images)
        assert names == list(expected)
        for name, values in zip(names, ours, strict=True):
            np.testing.assert_allclose(
                values, expected[name], rtol=1e-9, atol=1e-12, err_msg=f"{choice}: {name}"
            )
        np.testing.assert_allclose(ours[-1], expected["fc8"], rtol=1e-10, atol=1e-12)


def test_dropout_masks_in_training_and_halves_otherwise(float64):
    architecture = Architecture(
        "one_dropout", 4, 1, 2, (Dense("fc1", 40), ReLU(), Dropout(0.5), Output("fc2"))
    )
    graph = miniature.graph_of(architecture, 3, "float64")
    parameters = alexnet.draw_parameters(architecture, 3, jax.random.key(0), jnp.float64)
    images = jax.random.normal(jax.random.key(1), (1, 4, 4, 1), jnp.float64)
    apply = miniature.compiled(graph)
    evaluated = apply(parameters, images)
    keys = jax.random.split(jax.random.key(2), 20_000)
    many = jnp.repeat(images, len(keys), axis=0)
    trained = apply(parameters, many, keys)
    # Behind the mask everything is linear, so the mean over masks is the halved network.
    errors = (trained.mean(axis=0) - evaluated[0]) / (trained.std(axis=0) / np.sqrt(len(keys)))
    assert abs(errors).max() < 4


def test_towers_draw_different_masks():
    architecture = QUICKSTART
    graph, parameters = miniature.graph_of(architecture), draw(architecture, 10, 0)
    parameters = jax.tree.map(lambda p: jnp.broadcast_to(p[:1], p.shape), parameters)
    parameters["fc8"]["bias"] = jnp.zeros(10)
    parameters["fc8"]["kernel"] = parameters["fc8"]["kernel"].at[1].multiply(-1)
    images = 10 * jax.random.normal(jax.random.key(1), (4, 28, 28, 3))
    apply = miniature.compiled(graph)
    # Equal towers cancel in the logits, unless their masks differ.
    np.testing.assert_allclose(apply(parameters, images), 0, atol=1e-5)
    masked = apply(parameters, images, jax.random.split(jax.random.key(2), 4))
    assert abs(masked).max() > 1e-3


def test_bfloat16_activations_give_float32_logits_close_to_float32():
    parameters = draw(QUICKSTART, 10, 0)
    images = 10 * jax.random.normal(jax.random.key(1), (8, 28, 28, 3))
    wide, narrow = (
        miniature.compiled(miniature.graph_of(QUICKSTART, dtype=dtype))(parameters, images)
        for dtype in ("float32", "bfloat16")
    )
    assert narrow.dtype == jnp.float32
    assert jnp.linalg.norm(narrow - wide) < 0.02 * jnp.linalg.norm(wide)


def test_width_keeps_towers_even():
    for factor in (1 / 3, 0.01, 2):
        for layer, _ in NET145.with_width(factor).shapes():
            size = getattr(layer, "filters", getattr(layer, "units", 2))
            assert size >= 2
            assert size % 2 == 0
