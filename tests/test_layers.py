"""Layers against float64 NumPy loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.model import layers, normalization, pooling
from tests import reference


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("length", "size", "stride", "padding", "output"),
    [(224, 11, 4, 0, 55), (27, 5, 1, 2, 27), (13, 3, 1, 1, 13), (28, 5, 2, 2, 15), (8, 3, 2, 0, 4)],
)
def test_convolution_has_the_2012_output_size(length, size, stride, padding, output):
    layer = layers.Convolution("conv", 4, size=size, stride=stride, padding=padding)
    assert layer.output((length, length, 3), towers=2) == (output, output, 2)


@pytest.mark.parametrize(("length", "size", "stride", "padding"), [(15, 5, 4, 0), (9, 5, 2, 2)])
def test_convolution_equals_loops(float64, random, length, size, stride, padding):
    layer = layers.Convolution("conv", 6, size=size, stride=stride, padding=padding)
    x = random.normal(size=(2, length, length, 3))
    kernel, bias = random.normal(size=(size, size, 3, 6)), random.normal(size=6)
    expected = reference.convolve(x, kernel, bias, stride, padding)
    np.testing.assert_allclose(layer(x, kernel, bias), expected, rtol=1e-12, atol=1e-12)
    assert expected.shape[1:] == layer.output(x.shape[1:], towers=1)


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_across_map_norm_equals_loops(float64, random, n, beta):
    x = 30 * random.normal(size=(2, 3, 3, 8))
    expected = reference.across_maps(x, n, 2.0, 1e-3, beta)
    np.testing.assert_allclose(
        normalization.across_map_norm(x, n, 2.0, 1e-3, beta), expected, rtol=1e-13
    )


@pytest.mark.parametrize("n", [3, 5])
def test_spatial_norm_equals_loops(float64, random, n):
    x = 30 * random.normal(size=(2, 6, 7, 4))
    expected = reference.within_map(x, n, 1.0, 1e-3, 0.75)
    np.testing.assert_allclose(
        normalization.spatial_norm(x, n, 1.0, 1e-3, 0.75), expected, rtol=1e-13
    )


def test_across_map_norm_gradient_equals_differences(float64, random):
    x, direction = 30 * random.normal(size=(2, 2, 2, 7)), random.normal(size=(2, 2, 2, 7))
    weights = random.normal(size=x.shape)

    def value(at):
        return (weights * reference.across_maps(at, 5, 2.0, 1e-3, 0.75)).sum()

    def ours(at):
        return (weights * normalization.across_map_norm(at, 5, 2.0, 1e-3, 0.75)).sum()

    slope = (value(x + 1e-5 * direction) - value(x - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose((jax.grad(ours)(x) * direction).sum(), slope, rtol=1e-8)


def test_cuda_convnet_constants_become_the_papers():
    across = layers.AcrossMapNorm.cuda_convnet(5, scale=1e-4, power=0.75, minimum_divisor=2)
    within = layers.SpatialNorm.cuda_convnet(5, scale=1e-3, power=0.75)
    assert (across.k, across.n, across.beta) == (2, 5, 0.75)
    assert across.alpha == pytest.approx(2e-5)
    assert (within.k, within.alpha) == (1, pytest.approx(4e-5))


def test_norms_keep_bfloat16_but_compute_wider():
    x = jnp.full((1, 1, 1, 5), 3.0, jnp.bfloat16)
    y = normalization.across_map_norm(x, 5, 2.0, 2e-5, 0.75)
    exact = reference.across_maps(np.full((1, 1, 1, 5), 3.0), 5, 2.0, 2e-5, 0.75)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), exact, rtol=2**-8)


@pytest.mark.parametrize("length", [55, 27, 32, 16, 8, 3])
def test_pooling_equals_loops(float64, random, length):
    x = random.normal(size=(2, length, length, 3))
    for ours, reduce in ((pooling.max_pool, np.max), (pooling.average_pool, np.mean)):
        np.testing.assert_allclose(ours(x, 3, 2), reference.pool(x, 3, 2, reduce), rtol=1e-13)


def test_max_pool_sends_the_gradient_to_the_first_maximum():
    x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 2, 0].set(1).at[0, 2, 0, 0].set(1)
    gradient = jax.grad(lambda x: pooling.max_pool(x, 3, 2).sum())(x)
    np.testing.assert_array_equal(np.argwhere(gradient), [[0, 1, 2, 0]])


def test_relu_has_no_gradient_at_zero():
    assert jax.grad(lambda x: layers.ReLU()(x))(0.0) == 0.0


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


def test_a_row_draws_its_mask_from_its_own_key():
    keys = jax.random.split(jax.random.key(1), 6)
    mask = layers.Dropout(0.5).mask
    np.testing.assert_array_equal(mask(keys, (100,))[3:], mask(keys[3:], (100,)))
