"""AlexNet as a Flax module like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from alexnet_jax.model import alexnet
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.model.ops import REFERENCE
from alexnet_jax.runtime.errors import UserError
from tests.support import miniature


@pytest.fixture
def model():
    return alexnet.AlexNet("lenet5_relu_28", rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (4, 28, 28, 1))


def test_the_library_computes_with_plain_operations_and_as_many_classes_as_the_authors(model):
    assert model.operations is REFERENCE
    assert model.num_classes == NETWORKS["lenet5_relu_28"].num_classes
    shapes = nnx.eval_shape(lambda: alexnet.AlexNet(rngs=nnx.Rngs(0)))
    assert (shapes.architecture.name, shapes.num_classes) == ("net145", 1000)
    with pytest.raises(UserError, match="There is no network 'net14'"):
        alexnet.AlexNet("net14", rngs=nnx.Rngs(0))


def test_jit_and_split_and_merge_keep_the_function(model, images):
    logits = nnx.jit(model)(images)
    graph, state = nnx.split(model)
    assert logits.shape == (4, 10)
    np.testing.assert_array_equal(nnx.merge(graph, state)(images), model(images))
    np.testing.assert_allclose(logits, model(images), rtol=1e-5, atol=1e-6)
    # The trainer's form: a plain dict of arrays.
    parameters = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    apply = alexnet.apply(alexnet.graph_of(model.architecture, 10), parameters, images)
    np.testing.assert_array_equal(apply, model(images))


def test_an_optimizer_takes_a_step(model, images):
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    labels = jnp.arange(4)

    @nnx.jit
    def train_step(model, optimizer):
        def mean_loss(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

        loss, gradients = nnx.value_and_grad(mean_loss)(model)
        optimizer.update(model, gradients)
        return loss

    losses = [float(train_step(model, optimizer)) for _ in range(2)]
    assert losses[1] < losses[0]


def test_eval_and_train_switch_dropout():
    architecture = miniature.NARROW["tiny"]
    model = alexnet.AlexNet(architecture, num_classes=3, rngs=nnx.Rngs(0, dropout=1))
    again = alexnet.AlexNet(architecture, num_classes=3, rngs=nnx.Rngs(0, dropout=1))
    images = 30 * jax.random.normal(jax.random.key(1), (2, 28, 28, 3))
    keys = jax.random.split(jax.random.key(2), 2)
    graph = alexnet.graph_of(architecture, 3)
    plain = alexnet.apply(graph, nnx.to_pure_dict(nnx.state(model, nnx.Param)), images)
    first, second, dropped = model(images), model(images), model(images, keys)
    assert np.abs(first - plain).max() > 0
    assert np.abs(first - second).max() > 0  # the stream of randomness goes on
    np.testing.assert_array_equal(again(images), first)
    model.eval()
    np.testing.assert_array_equal(model(images), plain)
    np.testing.assert_array_equal(model(images, keys), plain)
    model.train()
    np.testing.assert_array_equal(model(images, keys), dropped)
    assert np.abs(model(images) - plain).max() > 0


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((2, 30, 28, 3), "Images of 30 x 28 pixels were given to the network tiny"),
        ((2, 28, 28, 1), r"expected \[batch, height, width, 3\]"),
        ((28, 28, 3), r"expected \[batch, height, width, 3\]"),
    ],
)
def test_images_of_another_shape_are_refused(shape, sentence):
    model = alexnet.AlexNet(miniature.NARROW["tiny"], rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match=sentence):
        model(np.ones(shape, np.float32))
