"""Pictures for TensorBoard: every filter and view in its place, zero as grey."""

import numpy as np
import pytest

from alexnet_jax.training import pictures


def tile(picture, index, columns, size):
    """The pixels of one tile of a grid."""
    row, column = divmod(index, columns)
    gap = pictures.GAP
    top, left = gap + row * (size + gap), gap + column * (size + gap)
    return picture[top : top + size, left : left + size]


def test_filters_of_two_towers_stand_one_above_the_other():
    kernel = np.random.default_rng(0).normal(size=(2, 11, 11, 3, 48)).astype(np.float32)
    kernel[1, :, :, :, 7] = 0
    picture = pictures.filters(kernel)
    half, apart = 4 * (44 + 2) + 2, 8
    assert picture.shape == (2 * half + apart, 12 * (44 + 2) + 2, 3)
    for tower, index in ((0, 0), (0, 47), (1, 13)):
        own_half = picture[tower * (half + apart) :]
        found = tile(own_half, index, 12, 44)[::4, ::4].astype(int)
        own = kernel[tower, :, :, :, index]
        np.testing.assert_allclose(found, 128 + 127 * own / np.abs(own).max(), atol=0.51)
    assert np.all(tile(picture[half + apart :], 7, 12, 44) == 128)


def test_views_are_in_grey_levels_with_zero_as_grey():
    inputs = np.zeros((8, 32, 32, 1), np.float32)
    inputs[3], inputs[4], inputs[5] = 2.0, -50.0, 50.0
    picture = pictures.inputs(inputs, scale=16.0)
    values = [tile(picture, index, 4, 64).mean() for index in (2, 3, 4, 5)]
    assert values == [128, 160, 0, 255]


def test_views_undo_a_divisor_of_each_channel_and_show_black_without_a_mean():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    found = tile(pictures.inputs(pixels / 255, 255.0, zero=0), 0, 1, 64)
    np.testing.assert_array_equal(found, pixels[0])
    deviations, mean = np.float32([60.0, 50.0, 40.0]), np.float32([128, 128, 128])
    found = tile(pictures.inputs((pixels - mean) / deviations, deviations), 0, 1, 64)
    np.testing.assert_array_equal(found, pixels[0])


@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (6, 6), (7, 7), (32, 8), (48, 12), (96, 16)]
)
def test_grids_are_about_twice_as_wide_as_high(count, columns):
    picture = pictures.grid(np.zeros((count, 5, 5, 1), np.uint8), pictures._columns(count))
    assert picture.shape[1] == columns * (5 + 2) + 2
