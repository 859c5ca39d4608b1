"""Layers against float64 NumPy loops, in plain operations and in the tuned ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import kernels
from alexnet_jax.model import layers, low_resolution
from alexnet_jax.model.ops import REFERENCE
from tests.support import reference


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(params=["reference", "tuned"])
def ops(request):
    return kernels.select(request.param, "cpu")


@pytest.mark.parametrize(
    ("length", "size", "stride", "padding", "output"),
    [(224, 11, 4, 0, 55), (27, 5, 1, 2, 27), (13, 3, 1, 1, 13), (28, 5, 2, 2, 15), (8, 3, 2, 0, 4)],
)
def test_convolution_has_the_2012_output_size(length, size, stride, padding, output):
    layer = layers.Convolution("conv", 4, size=size, stride=stride, padding=padding)
    assert layer.output((length, length, 3), towers=2) == (output, output, 2)


@pytest.mark.parametrize(("length", "size", "stride", "padding"), [(15, 5, 4, 0), (9, 5, 2, 2)])
def test_convolution_equals_loops(float64, random, ops, length, size, stride, padding):
    layer = layers.Convolution("conv", 6, size=size, stride=stride, padding=padding)
    x = random.normal(size=(2, length, length, 3))
    kernel, bias = random.normal(size=(size, size, 3, 6)), random.normal(size=6)
    expected = reference.convolve(x, kernel, bias, stride, padding)
    params = {"kernel": kernel, "bias": bias}
    ours = jax.jit(lambda x, params: layer(x, params, x, ops))(x, params)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)
    assert expected.shape[1:] == layer.output(x.shape[1:], towers=1)


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_response_norm_equals_loops(float64, random, ops, n, beta):
    x = 30 * random.normal(size=(2, 3, 3, 8))
    expected = reference.across_channels(x, n, 2.0, 1e-3, beta)
    norm = functools.partial(ops.response_norm, n=n, k=2.0, alpha=1e-3, beta=beta)
    (ours,) = jax.jit(norm)([x])
    np.testing.assert_allclose(ours, expected, rtol=1e-13)


@pytest.mark.parametrize("n", [3, 5])
def test_spatial_norm_equals_loops(float64, random, ops, n):
    x = 30 * random.normal(size=(2, 6, 7, 4))
    expected = reference.within_channel(x, n, 1.0, 1e-3, 0.75)
    norm = functools.partial(ops.spatial_norm, n=n, k=1.0, alpha=1e-3, beta=0.75)
    ours = jax.jit(norm)(x)
    np.testing.assert_allclose(ours, expected, rtol=1e-13)


NORMS = {
    "response": (layers.ResponseNorm, reference.across_channels),
    "spatial": (layers.SpatialNorm, reference.within_channel),
    "contrast": (layers.ContrastNorm, reference.contrast),
}


@pytest.mark.parametrize("beta", [0.75, 0.5])
@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("name", NORMS)
def test_norm_gradients_equal_differences_of_loops(float64, random, ops, name, n, beta):
    kind, loops = NORMS[name]
    layer = kind(n, 2.0, 1e-3, beta)
    shape = (1, 5, 6, 7)
    x, weights = 30 * random.normal(size=shape), random.normal(size=shape)
    gradient = jax.jit(jax.grad(lambda at: (weights * layer(at, ops)).sum()))(x)
    for _ in range(3):
        direction = random.normal(size=shape)
        ends = [
            (weights * loops(x + s * direction, n, 2.0, 1e-3, beta)).sum() for s in (1e-5, -1e-5)
        ]
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-7)


def test_contrast_norm_equals_loops(float64, random, ops):
    x = 30 * random.normal(size=(2, 6, 7, 3)) + 50
    expected = reference.contrast(x, 5, 1.0, 1e-3, 0.75)
    norm = functools.partial(ops.contrast_norm, n=5, k=1.0, alpha=1e-3, beta=0.75)
    ours = jax.jit(norm)(x)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_locally_connected_equals_loops(float64, random):
    layer = layers.LocallyConnected("local", 6, size=3, padding=1)
    x = random.normal(size=(2, 5, 4, 3))
    shapes = layer.parameters(x.shape[1:], towers=2)
    assert shapes == {"kernel": (5, 4, 27, 3), "bias": (5, 4, 3)}
    params = {kind: random.normal(size=shape) for kind, shape in shapes.items()}
    expected = reference.locally_connected(x, **params, size=3, padding=1)
    np.testing.assert_allclose(layer(x, params), expected, rtol=1e-12, atol=1e-12)


def test_the_low_resolution_image_equals_loops(float64, random):
    image = random.normal(size=(2, 24, 24, 3))
    view = low_resolution.LowResolution()
    ours = jax.jit(view)(image)
    assert ours.shape == (2, 6, 6, 3)
    np.testing.assert_allclose(ours, reference.blurred(image, 9, 4.0)[:, 2::4, 2::4], rtol=1e-12)
    assert jax.eval_shape(view, np.zeros((1, 224, 224, 3))).shape == (1, 56, 56, 3)


def test_cuda_convnet_constants_become_the_papers():
    response = layers.ResponseNorm.cuda_convnet(size=5, scale=1e-4, power=0.75, minimum_divisor=2)
    spatial = layers.SpatialNorm.cuda_convnet(size=5, scale=1e-3, power=0.75)
    assert (response.k, response.n, response.beta) == (2, 5, 0.75)
    assert response.alpha == pytest.approx(2e-5)
    assert (spatial.k, spatial.alpha) == (1, pytest.approx(4e-5))
    assert not response.across_towers


def test_caffes_constants_are_divided_too():
    norm = layers.ResponseNorm.caffe(local_size=5, alpha=1e-4, beta=0.75)
    assert (norm.n, norm.k, norm.alpha, norm.beta) == (5, 1, pytest.approx(2e-5), 0.75)
    assert norm.across_towers


def test_norms_keep_bfloat16_but_compute_wider(ops):
    x = jnp.full((1, 1, 1, 5), 3.0, jnp.bfloat16)
    (y,) = ops.response_norm([x], 5, k=2.0, alpha=2e-5, beta=0.75)
    exact = reference.across_channels(np.full((1, 1, 1, 5), 3.0), 5, 2.0, 2e-5, 0.75)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), exact, rtol=2**-8)


@pytest.mark.parametrize("length", [55, 27, 32, 16, 8, 3])
def test_pooling_equals_loops(float64, random, ops, length):
    x = random.normal(size=(2, length, length, 3))
    for pool, reduce in ((ops.max_pool, np.max), (ops.average_pool, np.mean)):
        ours = jax.jit(functools.partial(pool, size=3, stride=2))(x)
        np.testing.assert_allclose(ours, reference.pool(x, 3, 2, reduce), rtol=1e-13)


POOLS = pytest.mark.parametrize(("size", "stride"), [(3, 2), (2, 2), (3, 1), (3, 3), (5, 3)])
POOLED = [(13, 13), (8, 9), (32, 16), (6, 3)]  # heights and widths


@POOLS
@pytest.mark.parametrize(
    ("choice", "backend"),
    [("reference", "cpu"), ("tuned", "cpu"), ("tuned", "gpu")],  # three forms
)
def test_max_pool_gradients_equal_loops(monkeypatch, random, size, stride, choice, backend):
    """Small whole numbers, so that most windows have several maxima: the first one wins."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    max_pool = kernels.select(choice, backend).max_pool
    images = [random.integers(0, 4, (2, *sides, 3)).astype(np.float32) for sides in POOLED]
    results = [reference.pool(x, size, stride, np.max) for x in images]
    weights = [random.normal(size=y.shape).astype(np.float32) for y in results]

    def loss(images):
        pairs = zip(images, weights, strict=True)
        return sum((w * max_pool(x, size, stride)).sum() for x, w in pairs)

    for x, w, gradient in zip(images, weights, jax.jit(jax.grad(loss))(images), strict=True):
        expected = reference.max_pool_gradient(x, w, size, stride)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@POOLS
def test_average_pool_gradients_equal_loops(float64, random, ops, size, stride):
    images = [random.normal(size=(2, *sides, 3)) for sides in POOLED]
    results = [reference.pool(x, size, stride, np.mean) for x in images]
    weights = [random.normal(size=y.shape) for y in results]

    @jax.jit
    def pool(images):
        results, pull = jax.vjp(
            lambda images: [ops.average_pool(x, size, stride) for x in images], images
        )
        return results, *pull(weights)

    for x, w, y, ours, gradient in zip(images, weights, results, *pool(images), strict=True):
        np.testing.assert_allclose(ours, y, rtol=1e-12)
        expected = reference.average_pool_gradient(x.shape, w, size, stride)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)


def test_relu_has_no_gradient_at_zero(ops):
    assert jax.grad(lambda x: layers.ReLU()(x, ops))(0.0) == 0.0


def test_dropout_conventions():
    x = jnp.full((3, 4000), 2.0)
    keys = jax.random.split(jax.random.key(3), 3)
    halved, scaled = layers.Dropout(0.5), layers.Dropout(0.5, scale_in_training=True)
    mask = halved.mask(keys, (4000,))
    assert set(np.unique(mask)) == {False, True}
    np.testing.assert_array_equal(halved.training(x, mask), np.where(mask, 2, 0))
    np.testing.assert_array_equal(scaled.training(x, mask), np.where(mask, 4, 0))
    assert (halved(x, REFERENCE) == 1).all()
    assert (scaled(x, REFERENCE) == 2).all()


@pytest.mark.parametrize(
    ("activation", "numpy"),
    [
        (layers.ReLU(), lambda x: np.maximum(x, 0)),
        (layers.Tanh(1.7159, 2 / 3), lambda x: 1.7159 * np.tanh(2 / 3 * x)),
        (layers.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_activations_equal_numpy(float64, random, ops, activation, numpy):
    x = random.normal(size=100)
    np.testing.assert_allclose(activation(x, ops), numpy(x), rtol=1e-12)


@pytest.mark.parametrize(("keep", "units"), [(0.5, 2048), (0.5, 70), (0.8, 300)])
def test_dropout_masks_are_independent_coins(keep, units):
    keys = jax.random.split(jax.random.key(0), 2000)
    mask = np.asarray(layers.Dropout(keep).mask(keys, (units,)))
    assert mask.shape == (2000, units)
    deviation = np.sqrt(keep * (1 - keep) / mask.size)
    assert abs(mask.mean() - keep) < 4 * deviation
    worst = np.abs(mask.mean(axis=0) - keep).max()
    assert worst < 5 * np.sqrt(keep * (1 - keep) / 2000)
    together = np.corrcoef(mask[:, :60].T) - np.eye(60)
    assert np.abs(together).max() < 0.12


def test_an_example_draws_its_mask_from_its_own_key():
    keys = jax.random.split(jax.random.key(1), 6)
    mask = layers.Dropout(0.5).mask
    np.testing.assert_array_equal(mask(keys, (100,))[3:], mask(keys[3:], (100,)))
