"""Convolutions of few channels or filters against float64 loops, values and gradients."""

import pytest

from alexnet_jax.kernels import narrow_conv
from tests.support.kernel_checks import assert_equals_loops


@pytest.mark.parametrize("filters", [4, 16, 32])  # four windows at once, or two; many filters
@pytest.mark.parametrize(
    ("height", "width", "size", "padding", "channels"),
    [(9, 9, 5, 2, 3), (12, 16, 5, 0, 1), (6, 7, 3, 1, 7), (5, 5, 5, 0, 6), (8, 10, 1, 0, 2),
     (5, 9, 5, 2, 14), (4, 6, 3, 2, 20)],
)  # fmt: skip
def test_a_narrow_convolution_equals_loops(
    float64, height, width, size, padding, channels, filters
):
    shapes = (2, height, width, channels), (size, size, channels, filters)
    assert_equals_loops(narrow_conv.convolve_narrow, *shapes, padding)


def test_an_odd_batch_has_no_halves(float64):
    assert_equals_loops(narrow_conv.convolve_narrow, (3, 9, 10, 3), (5, 5, 3, 4), 2)
