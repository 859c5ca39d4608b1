"""Checks of every batch on the host, before it enters a step, whatever source it comes from.

XLA clamps an index that is out of range, so a wrong label would be trained on in silence.
"""

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.data.sources import Source
from alexnet_jax.runtime.errors import UserError


def check_images(images: np.ndarray, shape: tuple[int, ...], source: Source) -> None:
    """UserError unless `images` are uint8 of this shape, [batch, size, size, channels].

    Pixel values are not read.
    """
    if images.dtype != np.uint8 or images.shape != shape:
        raise UserError(
            f"{_name(source)} gives images of {images.dtype} {list(images.shape)}, where a step "
            f"takes uint8 {list(shape)}: mend what reads it, or prepare the set anew."
        )


def check_labels(labels: np.ndarray, ids: RecordIds, source: Source) -> None:
    """UserError unless the `labels` of the records `ids` are int32 and name classes of the set."""
    if labels.dtype != np.int32 or labels.shape != (len(ids),):
        raise UserError(
            f"{_name(source)} gives labels of {labels.dtype} {list(labels.shape)}, where a step "
            f"takes int32 [{len(ids)}]: mend what reads it, or prepare the set anew."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= len(source.classes)))
    if len(wrong):
        name = source.name(int(ids[wrong[0]]))
        raise UserError(
            f"The image {name} has the label {labels[wrong[0]]}, but {_name(source)} has classes 0 "
            f"to {len(source.classes) - 1}: mend its labels, or prepare the set anew."
        )


def _name(source: Source) -> str:
    return f"the set {source.fingerprint} ({type(source).__name__})"
