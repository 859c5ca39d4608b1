"""Crops, flips and colour noise have the stated distributions and constants."""

import jax
import numpy as np
import pytest
from scipy import stats

from alexnet_jax.data import augment
from alexnet_jax.data.statistics import Statistics, Sums, from_sums
from alexnet_jax.runtime.errors import UserError

EXAMPLES = 6000


def keys(seed=0, examples=EXAMPLES):
    return jax.random.split(jax.random.key(seed), examples)


def position_images(examples, size):
    """Images whose pixels tell where they stood: channel 0 the row, channel 1 the column."""
    places = np.stack(np.meshgrid(range(size), range(size), indexing="ij"), axis=-1)
    return np.broadcast_to(places.astype(np.uint8), (examples, size, size, 2))


def test_crops_are_whole_patches_at_uniform_positions():
    crops = np.asarray(
        jax.jit(augment.random_crop, static_argnums=2)(position_images(EXAMPLES, 9), keys(), 5)
    )
    tops, lefts = crops[:, 0, 0, 0], crops[:, 0, 0, 1]
    expected = position_images(1, 9)[0]
    for crop, top, left in zip(crops[:50], tops, lefts, strict=False):
        np.testing.assert_array_equal(crop, expected[top : top + 5, left : left + 5])
    # 5 x 5 places, corners included; offsets 0 ... 4 both ways, independent of each other.
    counts = np.histogram2d(tops, lefts, bins=(range(6), range(6)))[0]
    assert counts.sum() == EXAMPLES
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_a_256_image_has_33_by_33_crops():
    crops = augment.random_crop(position_images(2000, 256)[:, :, :, :1], keys(1, 2000), 224)
    tops = np.unique(np.asarray(crops)[:, 0, 0, 0])
    np.testing.assert_array_equal(tops, np.arange(33))


def test_flips_mirror_half_of_the_images_left_to_right():
    images = position_images(EXAMPLES, 6)
    flipped = np.asarray(augment.random_flip(images, keys(2)))
    mirrored = flipped[:, 0, 0, 1] == 5
    np.testing.assert_array_equal(flipped[mirrored], images[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(flipped[~mirrored], images[~mirrored])
    assert stats.binomtest(int(mirrored.sum()), EXAMPLES, 0.5).pvalue > 1e-3


def test_colour_noise_has_the_covariance_of_2012():
    deviations = np.array([121.78, 37.094, 19.721], np.float32)
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].astype(np.float32)
    statistics = Statistics(1, np.zeros((2, 2, 3)), deviations, directions, "")
    scaled = augment.scaled_directions(statistics)
    images = np.random.default_rng(1).normal(size=(EXAMPLES, 2, 2, 3)).astype(np.float32)
    noisy = np.asarray(augment.colour_noise(images, keys(3), scaled, 0.1))
    shifts = noisy * 1.1 - images
    # One shift an image, the same for all its pixels.
    np.testing.assert_allclose(shifts, shifts[:, :1, :1] + 0 * shifts, atol=1e-4)
    coordinates = shifts[:, 0, 0] @ directions.T / (0.1 * deviations)
    for k in range(3):
        assert stats.kstest(coordinates[:, k], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(coordinates.T) - np.eye(3)).max() < 0.05


def test_eigenvalues_shift_by_the_grey_levels_of_pixels_scaled_to_one():
    """5.8, 0.54 and 0.15 grey levels for c = 0.1 and the authors' deviations of 2014."""
    deviations = np.array([121.78, 37.094, 19.721], np.float32)
    statistics = Statistics(1, np.zeros((2, 2, 3)), deviations, np.eye(3, dtype=np.float32), "")
    scaled = augment.scaled_directions(statistics, "eigenvalues")
    np.testing.assert_allclose(0.1 * np.diag(scaled), [5.8, 0.54, 0.15], rtol=0.02)
    images = np.zeros((4, 2, 2, 3), np.float32)
    whole = augment.colour_noise(images, keys(3, 4), scaled, 0.1, divides=False)
    divided = augment.colour_noise(images, keys(3, 4), scaled, 0.1)
    np.testing.assert_allclose(whole, 1.1 * np.asarray(divided), rtol=1e-6)


def test_channel_statistics_are_those_of_the_pixels():
    """Through sums, components and back, against NumPy on the pixels themselves."""
    random = np.random.default_rng(6)
    pixels = random.integers(0, 256, (5, 4, 4, 3)) * np.array([1.0, 0.5, 0.25])
    pixels = (pixels + 0.5 * pixels[..., ::-1]).astype(np.int64)
    flat = pixels.reshape(-1, 3)
    sums = Sums(np.int64(5), pixels.sum(axis=0), flat.T @ flat)
    measured = from_sums(sums, "")
    np.testing.assert_allclose(measured.channel_means, flat.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(measured.channel_deviations, flat.std(axis=0), rtol=1e-5)
    mean = augment.subtracted_mean(
        measured, "channel", at_crop=False, crop=2, channel_mean=(1.0, 2.0, 3.0)
    )
    assert mean.tolist() == [1.0, 2.0, 3.0]


def test_a_channel_that_never_varies_cannot_be_standardised():
    still = Statistics(1, np.zeros((2, 2, 1)), np.zeros(1), np.ones((1, 1)), "")
    with pytest.raises(UserError, match="use data.units=grey_levels"):
        augment.divisor(still, "standardise", 1.0)


def test_colour_noise_of_strength_zero_changes_nothing():
    images = np.random.default_rng(1).normal(size=(4, 2, 2, 3)).astype(np.float32)
    noisy = augment.colour_noise(images, keys(3, 4), np.eye(3, dtype=np.float32), 0.0)
    np.testing.assert_array_equal(noisy, images)


def test_the_subtracted_mean_is_the_center_of_the_mean_image_or_all_of_it():
    mean = np.random.default_rng(0).normal(size=(256, 256, 3))
    measured = Statistics(1, mean, np.ones(3), np.eye(3), "")
    options = {"crop": 224, "channel_mean": ()}
    center = augment.subtracted_mean(measured, "image", at_crop=False, **options)
    np.testing.assert_array_equal(center, mean[16:240, 16:240])
    whole = augment.subtracted_mean(measured, "image", at_crop=True, **options)
    np.testing.assert_array_equal(whole, mean)


@pytest.mark.parametrize(("size", "crop", "start"), [(256, 224, 16), (32, 28, 2), (5, 5, 0)])
def test_center_crop(size, crop, start):
    images = position_images(2, size)
    center = augment.center_crop(images, crop)
    assert center.shape == (2, crop, crop, 2)
    assert center[0, 0, 0].tolist() == [start % 256, start % 256]
