"""Crops of random area and aspect, against Pillow's resizing of the same rectangles."""

import jax
import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data import resized_crop
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.config_check import check_config
from alexnet_jax.training.plan import architecture_of
from tests.training.test_plan import load

SIZE, CROP = 40, 16


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def boxes_of(count, size, areas):
    draw = jax.jit(jax.vmap(resized_crop.draw_box, (0, None, None)))
    return np.asarray(draw(keys(count), size, areas))


def test_each_rectangle_is_resized_as_pillow_does():
    """Smaller and larger than the result, up to the whole image and down to a few pixels."""
    images = np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)
    crop_all = jax.jit(resized_crop.random_resized_crop, static_argnums=2)
    for areas in ((0.01, 0.05), (0.08, 1.0), (0.95, 1.0)):
        crops = crop_all(images, keys(24), CROP, areas)
        assert crops.shape == (24, CROP, CROP, 3)
        for image, box, crop in zip(
            images, boxes_of(24, SIZE, areas), np.asarray(crops), strict=True
        ):
            top, left, height, width = box
            patch = image[top : top + height, left : left + width]
            assert patch.shape[:2] == (height, width)
            for channel in range(3):
                whole = Image.fromarray(patch[..., channel].astype(np.float32), mode="F")
                expected = np.asarray(whole.resize((CROP, CROP), Image.Resampling.BILINEAR))
                np.testing.assert_allclose(crop[..., channel], expected, atol=2e-3)


def test_areas_aspects_and_places_are_those_that_were_asked_for():
    boxes = np.asarray(
        jax.vmap(lambda key: resized_crop.draw_box(key, 256, (0.25, 0.5)))(keys(4000))
    )
    top, left, height, width = boxes.T
    assert (boxes >= 0).all()
    assert ((top + height <= 256) & (left + width <= 256)).all()
    areas = height * width / 256**2
    assert areas.min() > 0.24
    assert areas.max() < 0.51
    assert areas.mean() == pytest.approx(0.375, abs=0.005)
    aspects = np.log(width / height)
    assert aspects.min() == pytest.approx(np.log(3 / 4), abs=0.02)
    assert aspects.max() == pytest.approx(np.log(4 / 3), abs=0.02)
    assert aspects.mean() == pytest.approx(0, abs=0.01)
    for start, extent in ((top, height), (left, width)):
        place = (start + 0.5) / (256 - extent + 1)
        assert np.histogram(place, 4, (0, 1))[0].min() > 900
    assert len(np.unique(boxes, axis=0)) > 3900


def test_where_no_rectangle_fits_all_of_the_image_is_taken():
    boxes = boxes_of(50, 10_000, (1.0, 1.0))
    assert (boxes == (0, 0, 10_000, 10_000)).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"random_resized_crop": (0.5,)}, "expected the smallest and the largest share"),
        ({"random_resized_crop": (0.5, 0.1)}, "expected the smallest and the largest share"),
        ({"random_resized_crop": (0.0, 1.0)}, "expected the smallest and the largest share"),
        ({"random_resized_crop": ("a", 1.0)}, "expected the smallest and the largest share"),
        ({"random_resized_crop": (0.1, 1.0), "random_crop": False}, "needs data.random_crop=True"),
        ({"random_resized_crop": (0.1, 1.0), "mean_at": "crop"}, "data.mean_at=center"),
    ],
)
def test_what_cant_be_is_refused(changes, sentence):
    config = load("quickstart", "smoke")
    for name, value in changes.items():
        config.data[name] = value
    with pytest.raises(UserError, match=sentence):
        check_config(config, architecture_of(config), 1)
