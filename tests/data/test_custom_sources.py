"""Data sources of the user's own: what they may be, and what is said of one that can't be."""

import numpy as np
import pytest

from alexnet_jax.data import custom_sources, sources
from alexnet_jax.data.custom_sources import ArraySource
from alexnet_jax.runtime.errors import UserError

IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


def open_source(name, size=4):
    return sources.open_splits(
        name, path="somewhere", name="", validation="val", image_size=size, channels=3,
        num_records=0, num_classes=None,
    )  # fmt: skip


def test_a_source_is_opened_by_its_name_with_what_it_needs():
    seen = []

    @custom_sources.register_source("two_images")
    def two_images(split, **given):
        seen.append((split, given))
        return ArraySource(IMAGES, [0, 1] if split == "train" else [1, 1], ["a", "b"])

    training, validation = open_source("two_images")
    given = {"path": "somewhere", "image_size": 4, "channels": 3}
    assert seen == [("train", given), ("val", given)]
    assert (len(training), training.classes, training.name(1)) == (2, ("a", "b"), "image000001")
    pixels, labels = validation.load([1, 0, 1])
    np.testing.assert_array_equal(pixels, IMAGES[[1, 0, 1]])
    np.testing.assert_array_equal(labels, [1, 1, 1])
    out = np.empty((1, 4, 4, 3), np.uint8)
    assert training.load([1], out)[0] is out
    np.testing.assert_array_equal(out[0], IMAGES[1])
    assert training.fingerprint != validation.fingerprint
    with pytest.raises(UserError, match="has images of 4 pixels .* data.image_size=8"):
        open_source("two_images", size=8)


def test_splits_of_different_classes_are_refused():
    @custom_sources.register_source("of_two_kinds")
    def of_two_kinds(split, **_):
        return ArraySource(IMAGES, [0, 0], [split])

    with pytest.raises(UserError, match="The two splits of the data source of_two_kinds have"):
        open_source("of_two_kinds")


def test_a_source_that_is_not_known_is_answered_with_those_that_are():
    with pytest.raises(UserError, match="data.source is 'nowhere': expected one of folder, .*code"):
        open_source("nowhere")
    with pytest.raises(UserError, match="can't be called digits"):
        custom_sources.register_source("digits")


@pytest.mark.parametrize(
    ("images", "labels", "classes", "sentence"),
    [
        (IMAGES.astype(np.float32), [0, 1], "ab", "The images are float32"),
        (IMAGES[:, :2], [0, 1], "ab", "expected uint8 .records, size, size"),
        (IMAGES[0], [0, 1], "ab", "expected uint8 .records, size, size"),
        (IMAGES, [0], "ab", "There are 2 images, but labels int64 .1.: expected a whole number"),
        (IMAGES, [0.0, 1.0], "ab", "labels float64"),
        (IMAGES, [0, 2], "ab", "Labels reach from 0 to 2, but there are 2 classes"),
        (IMAGES, [-1, 0], "ab", "Labels reach from -1 to 0"),
        (IMAGES[:0], np.zeros(0, int), "ab", "at least one image"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(images, labels, classes, sentence):
    with pytest.raises(UserError, match=sentence):
        ArraySource(images, labels, classes)
