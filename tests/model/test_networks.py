"""Every network of the lists: sizes against numbers typed from the facts, steps, towers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alexnet_jax.model import alexnet, summary
from alexnet_jax.model.networks import NETWORKS
from tests.support import miniature

# Derived from the layer files of the 2012 release by hand, biases included.
PARAMETERS = {
    "net120_2012": 60_870_376,
    "net131": 60_870_376,
    "net135": 60_870_376,
    "net137": 60_870_376,
    "net145": 60_965_224,
    "net146": 61_555_304,
    "net145_half": 59_798_312,
    "net147": 60_965_224,
    "net148": 60_965_224,
    "paper": 60_965_224,
    "bvlc_alexnet": 60_965_224,
    "caffenet": 60_965_224,
    "one_weird_trick": 61_100_840,
    "cifar_18pct": 89_578,
    "cifar_80sec": 145_578,
    "cifar_towers": 110_394,
    "figure1_relu": 89_578,
    "lenet5": 61_706,
}
# Sides of the maps after conv1, pool1, conv2, pool2, conv3, conv4, conv5, pool3.
SIDES = {
    "net145": (55, 27, 27, 13, 13, 13, 13, 6),
    "net137": (55, 27, 27, 13, 13, 13, 13, 6),
    "net147": (55, 28, 26, 13, 13, 13, 11, 6),
    "bvlc_alexnet": (55, 27, 27, 13, 13, 13, 13, 6),
    "one_weird_trick": (55, 27, 27, 13, 13, 13, 13, 6),
    "zfnet": (110, 55, 26, 13, 13, 13, 13, 6),
    "cifar_18pct": (32, 16, 16, 8, 8, 4),
}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_facts(name):
    architecture = NETWORKS[name]
    rows = summary.summarize(architecture, architecture.num_classes)
    assert summary.total(rows).parameters == PARAMETERS[name]
    drawn = jax.eval_shape(
        lambda: alexnet.draw_parameters(architecture, architecture.num_classes, jax.random.key(0))
    )
    assert count(drawn) == PARAMETERS[name]


@pytest.mark.parametrize("name", SIDES)
def test_maps_have_the_sides_of_the_facts(name):
    rows = summary.summarize(NETWORKS[name], 10)
    sides = [row.output[0] for row in rows if "conv" in row.name or "pool" in row.what]
    assert tuple(sides) == SIDES[name]


def test_activations_are_counted_as_in_figure_2():
    rows = {row.name: row for row in summary.summarize(NETWORKS["net145"], 1000)}
    assert rows["conv1"].activations == 290_400
    assert summary.total(list(rows.values())).activations == 659_272


def test_multiply_adds_are_those_of_the_compiled_program():
    """XLA's own count of a forward pass: two operations each, the rest are small change."""
    architecture = NETWORKS["one_weird_trick"]
    graph = alexnet.graph_of(architecture, 1000)
    shapes = jax.eval_shape(lambda: alexnet.draw_parameters(architecture, 1000, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    cost = miniature.compiled(graph).lower(shapes, images).cost_analysis()
    products = summary.total(summary.summarize(architecture, 1000)).multiply_adds
    # XLA leaves out products with padding, which the convention counts.
    assert 0.9 * 2 * products < cost["flops"] < 2 * products * 1.02


def narrow(name):
    """The network at a tenth of its width or less, the small ones at half."""
    architecture = NETWORKS[name]
    return architecture.with_width(1 / 24 if architecture.input_size > 100 else 1 / 2)


def step_of(name, data, model, dtype, architecture=None):
    """Loss and parameters after one training step, and the scores of an evaluation."""
    architecture = architecture or narrow(name)
    steps = miniature.make_steps(name, data, model, dtype, architecture=architecture)
    size, channels = architecture.input_size, architecture.channels
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (miniature.BATCH, size, size, channels), np.uint8)
    labels = random.integers(0, miniature.CLASSES, miniature.BATCH).astype(np.int32)
    batch = miniature.put(steps, images, labels)
    preprocessing = miniature.plain_preprocessing(steps)
    state, loss = steps.training()(steps.initial_state(), *batch, preprocessing)
    scored, _ = steps.evaluation()(state.parameters, *batch, preprocessing)
    return jax.device_get({"loss": loss, "parameters": state.parameters, "scores": scored})


# Relatives of net 145 and the quickstart that have no kind of layer of their own.
RELATIVES = (
    "net120_2012", "net131", "net135", "net137", "net145_half", "net147", "net148", "net150",
    "cifar_towers", "cifar_towers_half", "cifar_towers_no_norm", "cifar_towers_paper",
    "cifar_towers_pool2",
)  # fmt: skip
# One of each kind: the others differ in widths and in layers that these have too.
ALIKE = ("caffenet", "net146", "paper")  # bvlc_alexnet, net146_2011 and net145 have all of these
UNRELATED = sorted(name for name in NETWORKS if name not in (*RELATIVES, *ALIKE))
TWO_TOWERS = [name for name in UNRELATED if NETWORKS[name].towers == 2]


# Together they have every kind of layer that the networks of training/test_loop.py lack.
@pytest.mark.parametrize("name", ["net120_2012", "bvlc_alexnet", "cifar_11pct"])
def test_a_network_of_each_kind_takes_a_step(name):
    assert_finite(step_of(name, 1, 1, "float32"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RELATIVES, *ALIKE])
def test_the_step_of_every_relative_can_be_traced(name):
    """What its layers compute is in the tests of those that have them too."""
    architecture = narrow(name)
    steps = miniature.make_steps(name, 1, 1, architecture=architecture)
    batch = steps.batch_shapes(miniature.BATCH, architecture.input_size)
    shapes = steps.state_shapes()
    state, loss = jax.eval_shape(
        steps.training(), shapes, *batch, miniature.plain_preprocessing(steps)
    )
    assert loss.shape == ()
    assert jax.tree.map(lambda leaf: leaf.shape, state) == jax.tree.map(
        lambda leaf: leaf.shape, shapes
    )


def assert_finite(result):
    assert np.isfinite(result["loss"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result["parameters"]))
    assert result["scores"]["images"] == miniature.BATCH


@pytest.mark.slow
@pytest.mark.parametrize("name", TWO_TOWERS)
def test_two_towers_agree_on_one_device_and_on_two(float64, name):
    ours, theirs = (step_of(name, 1, model, "float64") for model in (2, 1))
    assert_finite(ours)
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    for a, b in pairs:
        assert np.linalg.norm(a - b) <= 1e-12 * np.linalg.norm(b)


def drawn_at_full_size(architecture):
    """As alexnet.draw_parameters does, but by NumPy, which takes a fraction of the time here."""
    shapes, found = architecture.parameter_shapes(architecture.num_classes), {}
    random = np.random.default_rng(2)
    for layer in architecture.layers:
        for kind, shape in shapes.get(getattr(layer, "name", None), {}).items():
            value = np.full(shape, layer.bias, np.float32)
            if kind != "bias":
                value = layer.deviation * random.standard_normal(shape, np.float32)
            found.setdefault(layer.name, {})[kind] = value
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in UNRELATED if name != "net145"])
def test_every_network_has_gradients_at_full_size_in_float32_and_bfloat16(name):
    """And its centered logits in bfloat16 are those of float32 within 3%.

    Net 145's layers are all in net146_2011.
    """
    architecture = NETWORKS[name]
    parameters, key = jax.device_put(drawn_at_full_size(architecture)), jax.random.key(0)
    side = architecture.input_size
    images = 60 * jax.random.normal(key, (2, side, side, architecture.channels))

    def apply(parameters, dtype, *keys):
        graph = miniature.graph_of(architecture, architecture.num_classes, dtype)
        return alexnet.apply(graph, parameters, images, *keys)

    def loss(parameters, dtype):
        logits = apply(parameters, dtype, jax.random.split(key, 2))
        return jax.nn.log_softmax(logits)[:, 0].mean()

    def centered_logits(parameters, dtype):
        logits = apply(parameters, dtype)
        return logits - logits.mean(axis=1, keepdims=True)

    gradients = jax.jit(jax.grad(loss), static_argnums=1)
    for dtype in ("float32", "bfloat16"):
        # By NumPy, since jax would compile a program for each shape.
        leaves = jax.tree.leaves(jax.device_get(gradients(parameters, dtype)))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
    evaluate = jax.jit(centered_logits, static_argnums=1)
    narrow, wide = (evaluate(parameters, dtype) for dtype in ("bfloat16", "float32"))
    assert 0 < jnp.linalg.norm(narrow - wide) < 0.03 * jnp.linalg.norm(wide)


def test_activation_and_dropout_are_choices():
    from alexnet_jax.model.layers import Dropout, ReLU, Tanh

    changed = NETWORKS["net145"].with_activation(Tanh()).with_dropout_scaled(True)
    kinds = [type(layer) for layer in changed.layers]
    assert kinds.count(Tanh) == 7
    assert ReLU not in kinds
    assert all(layer.scale_in_training for layer in changed.layers if isinstance(layer, Dropout))


@pytest.mark.parametrize("name", ["cifar_towers", "net145", "cifar_11pct", "quickstart"])
def test_pixels_from_0_to_1_look_like_grey_levels_to_weights_255_times_as_large(name):
    plain = NETWORKS[name].with_width(1 / 16 if name == "net145" else 1)
    images = 255 * np.random.default_rng(0).random(
        (2, plain.input_size, plain.input_size, plain.channels), np.float32
    )
    logits = []
    for architecture, x in ((plain, images), (plain.with_first_weights(255), images / 255)):
        model = alexnet.AlexNet(architecture, rngs=nnx.Rngs(0))
        model.eval()
        logits.append(nnx.jit(model)(x))
    assert np.abs(logits[0]).max() > 0
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-3, atol=1e-4 * np.abs(logits[0]).max())
